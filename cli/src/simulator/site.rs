//! The server's side of one request, from arrival to answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, Request, State, connect_info::IntoMakeServiceWithConnectInfo},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use tokio_util::sync::CancellationToken;

use super::{
    chance::{Chance, Fault},
    counts::Counters,
    fynd, kornitx,
    ledger::{Ledger, LedgerAnswer, LedgerEntry},
    line::Hangup,
    mint::Mint,
    platform,
    received::Received,
    reply::{Answer, Reply},
    script::{ScriptedAnswer, Scripts},
    settings::Settings,
};

/// The longest request body that is read, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;

const SERVER_ERROR_PAGE: &str = "<html>\r\n<head><title>500 Internal Server Error</title></head>\r\n<body>\r\n\
     <center><h1>500 Internal Server Error</h1></center>\r\n</body>\r\n</html>\r\n";

/// Everything that requests share.
pub(super) struct Site {
    settings: Settings,
    stopping: CancellationToken,
    chance: Chance,
    mint: Mint,
    /// Rows that the platform's endpoint has refreshed.
    refreshed: AtomicU64,
    pub(super) scripts: Scripts,
    pub(super) ledger: Ledger,
    pub(super) counters: Counters,
}

/// The server: one handler for every path, which costs less than routing and sees unknown paths too.
pub(super) fn service(site: Arc<Site>) -> IntoMakeServiceWithConnectInfo<Router, Hangup> {
    Router::new().fallback(handle).with_state(site).into_make_service_with_connect_info()
}

async fn handle(
    State(site): State<Arc<Site>>,
    ConnectInfo(hangup): ConnectInfo<Hangup>,
    request: Request,
) -> Response {
    site.counters.request();
    let (head, body) = request.into_parts();
    let answer = match to_bytes(body, LONGEST_BODY).await {
        Ok(body) => site.take(&head, body).await,
        // Too long, or cut off by a client that will not read this.
        Err(_) => Some(Answer::plain(Reply::new(StatusCode::PAYLOAD_TOO_LARGE, ""))),
    };
    match answer {
        Some(answer) => {
            site.counters.answer(&answer);
            answer.reply.into_response()
        }
        None => {
            hangup.reset();
            Response::default()
        }
    }
}

impl Site {
    pub(super) fn new(settings: Settings, stopping: CancellationToken) -> Self {
        Self {
            stopping,
            chance: Chance::new(&settings),
            mint: Mint::new(settings.seed),
            refreshed: AtomicU64::new(0),
            scripts: Scripts::default(),
            ledger: Ledger::default(),
            counters: Counters::default(),
            settings,
        }
    }

    /// Takes one request to its answer; none means that the connection is to be reset.
    async fn take(&self, head: &Parts, body: Bytes) -> Option<Answer> {
        let received = Received::read(head, &body);
        let place = self.settings.record.then(|| self.ledger.enter(entry(head, &body, &received)));
        let scripted = self.scripts.take(received.provider(), received.account().as_deref());
        let answer = tokio::select! {
            biased;
            answer = self.answer(head, received, scripted) => answer,
            () = self.stopping.cancelled() => None,
        };
        if let Some(place) = place {
            self.ledger.close(place, answer.as_ref());
        }
        answer
    }

    async fn answer(
        &self,
        head: &Parts,
        received: Received<'_>,
        scripted: Option<ScriptedAnswer>,
    ) -> Option<Answer> {
        let mut scripted = scripted.unwrap_or(ScriptedAnswer::Normal);
        loop {
            match scripted {
                ScriptedAnswer::After(delay, then) => {
                    pause(delay).await;
                    scripted = *then;
                }
                ScriptedAnswer::Reply(reply) => return Some(Answer::plain(reply)),
                ScriptedAnswer::Reset => return None,
                ScriptedAnswer::Normal => {
                    pause(self.chance.latency()).await;
                    return Some(self.normal(head, received));
                }
            }
        }
    }

    /// The answer where no script says otherwise. A server that is overloaded or broken checks no credentials.
    fn normal(&self, head: &Parts, received: Received<'_>) -> Answer {
        let marketplace = received.provider().is_some_and(|provider| provider.is_marketplace());
        if let Some(fault) = marketplace.then(|| self.chance.fault()).flatten() {
            return self.fault(fault);
        }
        let Settings { credentials, clock, token_lifetime, .. } = &self.settings;
        match received {
            Received::Fynd(parameters) => fynd::answer(&head.method, &parameters, credentials, &self.mint),
            Received::KornitX(parameters) => kornitx::answer(
                &head.method,
                &head.headers,
                &parameters,
                credentials,
                &self.mint,
                (clock(), *token_lifetime),
            ),
            Received::Platform(row) => {
                platform::answer(&head.method, row, || self.refreshed.fetch_add(1, Ordering::Relaxed) + 1)
            }
            Received::Unknown => {
                Answer::plain(Reply::json(StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#))
            }
        }
    }

    fn fault(&self, fault: Fault) -> Answer {
        Answer::plain(match fault {
            Fault::ServerError => Reply::html(StatusCode::INTERNAL_SERVER_ERROR, SERVER_ERROR_PAGE),
            Fault::RateLimited => {
                let reply = Reply::json(StatusCode::TOO_MANY_REQUESTS, r#"{"message":"Too Many Requests"}"#);
                match self.settings.retry_after {
                    Some(wait) => reply.with(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait))),
                    None => reply,
                }
            }
        })
    }
}

/// Rounded up: a client that waits the seconds told has waited long enough.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

async fn pause(delay: Duration) {
    // A sleep of nothing still costs a timer.
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn entry(head: &Parts, body: &Bytes, received: &Received<'_>) -> LedgerEntry {
    LedgerEntry {
        method: head.method.clone(),
        // Hyper hands over the bytes of the request line; reading the path and query as one piece keeps them.
        target: head.uri.path_and_query().map(|target| target.as_str().to_owned()).unwrap_or_default(),
        headers: head.headers.clone(),
        body: body.clone(),
        provider: received.provider(),
        account: received.account().map(Into::into),
        answer: LedgerAnswer::Pending,
    }
}
