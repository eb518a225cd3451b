//! `object_store`'s requests, sent by the client that everything here is fetched by.
//!
//! Whoever asks for something waits for it on a thread of its own (`bucket`), so a request may block.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind,
    HttpRequest, HttpResponse, HttpService,
};
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for the bytes of a request, and for those of its answer: a part of a file has 16 MiB at most.
const TRANSFER: Duration = Duration::from_secs(120);
/// The file of certificates that Amazon's own tools read, instead of those of the public authorities.
const CERTIFICATES: &str = "AWS_CA_BUNDLE";

/// Makes clients.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let says = |key| options.get_config_value(&key).as_deref() == Some("true");
        let tls = TlsConfig::builder()
            .disable_verification(says(ClientConfigKey::AllowInvalidCertificates))
            .root_certs(certificates()?)
            .build();
        let config = Agent::config_builder()
            .https_only(!says(ClientConfigKey::AllowHttp))
            .tls_config(tls)
            .http_status_as_error(false)
            // A signature is for one host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_send_body(Some(TRANSFER))
            .timeout_recv_response(Some(TRANSFER))
            .timeout_recv_body(Some(TRANSFER))
            .user_agent(concat!("popalign/", env!("CARGO_PKG_VERSION")));
        Ok(HttpClient::new(Client(config.build().new_agent())))
    }
}

/// Whom to trust.
fn certificates() -> object_store::Result<RootCerts> {
    let Some(path) = std::env::var_os(CERTIFICATES) else {
        return Ok(RootCerts::WebPki);
    };
    let failed = |source| object_store::Error::Generic {
        store: CERTIFICATES,
        source,
    };
    let pem = crate::base::fsio::read(path).map_err(|error| failed(error.into()))?;
    let mut trusted = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(error.into()))? {
            trusted.push(certificate);
        }
    }
    Ok(RootCerts::Specific(Arc::new(trusted)))
}

#[derive(Debug)]
struct Client(Agent);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        // GET and HEAD have none, not an empty one.
        let answer = match bytes.is_empty() && parts.method.is_safe() {
            true => self.0.run(Request::from_parts(parts, ())),
            false => self.0.run(Request::from_parts(parts, &bytes[..])),
        };
        let (parts, body) = answer.map_err(failed)?.into_parts();
        let bytes = body.into_with_config().limit(u64::MAX).read_to_vec();
        Ok(HttpResponse::from_parts(
            parts,
            bytes.map_err(failed)?.into(),
        ))
    }
}

/// Which kind a failure is of says whether it is tried again.
fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => HttpErrorKind::Timeout,
            _ => HttpErrorKind::Interrupted,
        },
        // What a server breaks off in the middle of an answer.
        ureq::Error::Protocol(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
