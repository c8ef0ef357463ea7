//! A provider that answers by script, for tests and simulation.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::domain::provider::answer::ProviderAnswer;
use crate::domain::provider::request::ProviderRequest;
use crate::ports::provider::{CallError, ProviderCaller};

/// One scripted answer.
pub type Scripted = Result<(u16, String), CallError>;

/// Answers with what was put into it, in order; with nothing left, the answer is lost.
#[derive(Default)]
pub struct ScriptedProvider(Mutex<State>);

#[derive(Default)]
struct State {
    answers: VecDeque<Scripted>,
    requests: Vec<ProviderRequest>,
}

impl ScriptedProvider {
    /// Adds an answer of this status and body.
    pub fn answer(&self, status: u16, body: impl Into<String>) {
        self.state().answers.push_back(Ok((status, body.into())));
    }

    /// Adds a call from which no answer comes.
    pub fn fail(&self, error: CallError) {
        self.state().answers.push_back(Err(error));
    }

    /// The templates of the URLs that were called, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state().requests.iter().map(|request| request.endpoint.clone()).collect()
    }

    /// What was sent, in order.
    pub fn requests(&self) -> Vec<ProviderRequest> {
        self.state().requests.clone()
    }

    /// The state is whole between any two calls, so a panic elsewhere leaves it usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ProviderCaller for ScriptedProvider {
    async fn call(&self, request: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        let mut state = self.state();
        state.requests.push(request.clone());
        let endpoint = request.endpoint.clone();
        let scripted = state
            .answers
            .pop_front()
            .unwrap_or(Err(CallError::AnswerLost { endpoint, problem: "nothing is scripted" }));
        scripted.map(|(status, body)| ProviderAnswer {
            status,
            retry_after: None,
            body: Zeroizing::new(body.into_bytes()),
        })
    }
}
