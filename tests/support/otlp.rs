//! An OTLP collector that keeps what it is sent.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A collector on loopback; ends when dropped.
pub struct Collector {
    address: SocketAddr,
    inbox: Inbox,
    _serving: AbortOnDropHandle<()>,
}

/// A span, and the service that sent it.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    /// `service.name`.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl ReceivedSpan {
    /// An attribute in words.
    pub fn attribute(&self, key: &str) -> Option<String> {
        attribute(&self.span.attributes, key)
    }
}

impl Collector {
    /// Binds a free port of 127.0.0.1 and collects on it.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let inbox = Inbox::default();
        let service = TraceServiceServer::new(inbox.clone());
        let serving = Server::builder().serve_with_incoming(service, TcpIncoming::from(listener));
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            // What a collector that ends early misses is missed by the test, too.
            let _ = serving.await;
        }));
        Ok(Self { address, inbox, _serving: serving })
    }

    /// For `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let mut spans = Vec::new();
        for resource in self.inbox.requests().iter().flat_map(|request| &request.resource_spans) {
            let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
            let service = attribute(attributes, "service.name").unwrap_or_default();
            let of_resource = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
            spans.extend(
                of_resource.map(|span| ReceivedSpan { service: service.clone(), span: span.clone() }),
            );
        }
        spans
    }

    /// The schemas of all spans so far: of who sent them, and of the instrumentation.
    pub fn schemas(&self) -> BTreeSet<(String, String)> {
        let requests = self.inbox.requests();
        let of_resources = requests.iter().flat_map(|request| &request.resource_spans);
        let schemas = of_resources.flat_map(|resource| {
            let of_scopes = resource.scope_spans.iter();
            of_scopes.map(|scope| (resource.schema_url.clone(), scope.schema_url.clone()))
        });
        schemas.collect()
    }

    /// All messages so far, as on the wire: texts stand in them byte for byte.
    pub fn bytes(&self) -> Vec<u8> {
        self.inbox.requests().iter().flat_map(Message::encode_to_vec).collect()
    }
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Inbox {
    fn requests(&self) -> MutexGuard<'_, Vec<ExportTraceServiceRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Inbox {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.requests().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>, key: &str) -> Option<String> {
    let found = attributes.into_iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref() {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
