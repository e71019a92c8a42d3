//! One message to a collector, and what its answer means.
//!
//! Files are read whenever a connection is made ready, and it is made ready anew after each failure: so a certificate or a
//! token that was renewed needs no restart.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{self, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Extensions, Request, Status};
use tonic_prost::ProstCodec;

use crate::config::TraceExport;
use crate::link::dial::{DialError, certificates, credentials};
use crate::tls::system_authorities;
use crate::trace::otlp::{
    Details, EXPORT, ExportRequest, ExportResponse, KeyValue, Resource, ResourceSpans, RetryInfo, Scope,
    ScopeSpans, Span, Value,
};

/// Longest text of a collector's that is logged.
const SAID_BYTES_MAX: usize = 512;

/// What became of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// The collector has it, but for so many spans.
    Taken { rejected: usize, message: String },
    /// It may have it later, after this time if it says one.
    Later(Option<Duration>, String),
    /// It will never have it.
    Refused(String),
}

/// The way to a collector.
pub(super) struct Collector {
    settings: TraceExport,
    resource: Resource,
    ready: Option<Ready>,
}

/// A connection, or what makes one when it is used.
#[derive(Clone)]
struct Ready {
    client: Grpc<Channel>,
    headers: MetadataMap,
}

impl Collector {
    pub(super) fn new(settings: &TraceExport) -> Self {
        Self {
            resource: resource(settings),
            settings: settings.clone(),
            ready: None,
        }
    }

    /// Sends spans. What is returned needs nothing of this any more.
    pub(super) fn send(&mut self, spans: Vec<Span>) -> impl Future<Output = Answer> + use<> {
        let ready = match &self.ready {
            Some(ready) => Ok(ready.clone()),
            None => ready(&self.settings).inspect(|ready| self.ready = Some(ready.clone())),
        };
        let message = self.message(spans);
        let patience = self.settings.timeout;
        async move {
            let Ready { mut client, headers } = match ready {
                Ok(ready) => ready,
                // A file that is being replaced is there a moment later.
                Err(error) => return Answer::Later(None, error.to_string()),
            };
            let mut request = Request::from_parts(headers, Extensions::default(), message);
            request.set_timeout(patience);
            let sent = async {
                let unready =
                    |error: transport::Error| Status::unavailable(format!("no connection: {error}"));
                client.ready().await.map_err(unready)?;
                let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
                client
                    .unary(request, PathAndQuery::from_static(EXPORT), codec)
                    .await
            };
            match timeout(patience, sent).await {
                Ok(Ok(response)) => taken(response.into_inner()),
                Ok(Err(status)) => refused(&status),
                Err(_) => Answer::Later(None, format!("no answer in {} ms", patience.as_millis())),
            }
        }
    }

    /// The next message finds another connection.
    pub(super) fn forget(&mut self) {
        self.ready = None;
    }

    fn message(&self, spans: Vec<Span>) -> ExportRequest {
        let scope = Scope {
            name: Bytes::from_static(b"foreshade-proxy"),
            version: Bytes::from_static(env!("CARGO_PKG_VERSION").as_bytes()),
        };
        ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                }],
            }],
        }
    }
}

/// Who reports. Source: the conventions for resources, `service`, `process`.
fn resource(settings: &TraceExport) -> Resource {
    let text = |text: &str| Value::Text(Bytes::copy_from_slice(text.as_bytes()));
    let own = [
        KeyValue::new("service.name", text(&settings.service)),
        KeyValue::new("service.version", Value::word(env!("CARGO_PKG_VERSION"))),
        KeyValue::new("process.pid", Value::Int(std::process::id().into())),
    ];
    let named = settings.attributes.iter();
    let named =
        named.map(|(name, value)| KeyValue::named(Bytes::copy_from_slice(name.as_bytes()), text(value)));
    // What the file says counts.
    let is_free = |own: &KeyValue| {
        settings
            .attributes
            .iter()
            .all(|(name, _)| own.key != name.as_bytes())
    };
    Resource {
        attributes: own.into_iter().filter(is_free).chain(named).collect(),
    }
}

/// Reads what has to be read, and makes of it what connects when it is used.
fn ready(settings: &TraceExport) -> Result<Ready, DialError> {
    let endpoint = Endpoint::from_shared(settings.endpoint.clone())?
        .user_agent(concat!("foreshade-proxy/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(settings.timeout)
        .tcp_nodelay(true);
    let endpoint = match &settings.tls {
        Some(tls) => endpoint.tls_config(certificates(tls)?)?,
        None if settings.endpoint.starts_with("https://") => {
            let roots = system_authorities().map_err(DialError::Authorities)?.roots;
            endpoint.tls_config(ClientTlsConfig::new().trust_anchors(roots))?
        }
        None => endpoint,
    };
    let mut headers = http::HeaderMap::new();
    for (name, value) in &settings.headers {
        headers.append(name, value.clone());
    }
    let mut headers = MetadataMap::from_headers(headers);
    if let Some(path) = &settings.token_file {
        let bearer: AsciiMetadataValue = credentials(path)?;
        headers.insert("authorization", bearer);
    }
    Ok(Ready {
        client: Grpc::new(endpoint.connect_lazy()),
        headers,
    })
}

fn taken(response: ExportResponse) -> Answer {
    let partial = response.partial_success.unwrap_or_default();
    Answer::Taken {
        rejected: usize::try_from(partial.rejected_spans).unwrap_or_default(),
        message: cut(&partial.error_message),
    }
}

/// Source: OTLP specification, "Failures" and "OTLP/gRPC throttling".
fn refused(status: &Status) -> Answer {
    let error = format!("{:?}: {}", status.code(), cut(status.message()));
    let asked = retry_delay(status.details());
    // What has a cause was found out here, and not said by the collector.
    let is_broken = status.source().is_some();
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::Later(asked, error),
        Code::ResourceExhausted if asked.is_some() => Answer::Later(asked, error),
        _ if is_broken => Answer::Later(None, error),
        _ => Answer::Refused(error),
    }
}

/// After which time the collector wants to hear of it again, if it says so.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let details = Details::decode(details).ok()?.details;
    let of_retry = |url: &str| url.ends_with("/google.rpc.RetryInfo");
    let detail = details.iter().find(|detail| of_retry(&detail.type_url))?;
    let delay = RetryInfo::decode(&detail.value[..]).ok()?.retry_delay?;
    let (seconds, nanos) = (
        u64::try_from(delay.seconds).ok()?,
        u32::try_from(delay.nanos).ok()?,
    );
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())))
}

fn cut(text: &str) -> String {
    text.chars().take(SAID_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::otlp::{Delay, Detail, PartialSuccess};

    fn with_delay(code: Code, seconds: i64, nanos: i32) -> Status {
        let retry_delay = Some(Delay { seconds, nanos });
        let details = Details {
            details: vec![
                Detail {
                    type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
                    value: vec![255],
                },
                Detail {
                    type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                    value: RetryInfo { retry_delay }.encode_to_vec(),
                },
            ],
        };
        Status::with_details(code, "full", details.encode_to_vec().into())
    }

    fn is_tried_again(status: &Status) -> bool {
        matches!(refused(status), Answer::Later(..))
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_given_up() {
        for code in 1..=16 {
            let code = Code::from(code);
            let passes = matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            );
            assert_eq!(is_tried_again(&Status::new(code, "")), passes, "{code:?}");
        }
    }

    #[test]
    fn a_collector_that_is_full_is_asked_again_only_where_it_says_when() {
        let asked = |status: &Status| match refused(status) {
            Answer::Later(asked, _) => asked,
            other => panic!("{other:?}"),
        };
        let full = with_delay(Code::ResourceExhausted, 2, 500_000_000);
        assert_eq!(asked(&full), Some(Duration::from_millis(2500)));
        assert_eq!(
            asked(&with_delay(Code::Unavailable, 7, 0)),
            Some(Duration::from_secs(7))
        );
        for (seconds, nanos) in [(-1, 0), (0, -1)] {
            assert!(!is_tried_again(&with_delay(
                Code::ResourceExhausted,
                seconds,
                nanos
            )));
        }
        let garbage = Status::with_details(Code::ResourceExhausted, "", Bytes::from_static(b"\xff\xff"));
        assert!(!is_tried_again(&garbage));
    }

    #[test]
    fn a_part_may_be_rejected() {
        let partial_success = Some(PartialSuccess {
            rejected_spans: 3,
            error_message: "x".repeat(2 * SAID_BYTES_MAX),
        });
        let Answer::Taken { rejected, message } = taken(ExportResponse { partial_success }) else {
            panic!("it is taken");
        };
        assert_eq!((rejected, message.len()), (3, SAID_BYTES_MAX));
        assert!(matches!(
            taken(ExportResponse::default()),
            Answer::Taken { rejected: 0, .. }
        ));
    }
}
