//! Whom to speak to and with whose name: what the environment says, in the variables that each service's own
//! tools read.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{Error as Refusal, ObjectStore, RetryConfig};

use super::client::Connector;
use super::place::{Address, Service};
use super::{Error, Result};
use crate::base::Values;

/// Seconds for which a server that doesn't answer is asked again.
const PATIENCE: &str = "POPALIGN_STORE_PATIENCE";
const PATIENCE_DEFAULT: u64 = 180;
/// A request isn't signed anew when it is tried again, and services take signatures for some minutes only.
const PATIENCE_RANGE: Values<u64> = Values::within("seconds", 0, 300);

/// A store that is asked for as long as a run can wait.
pub(super) fn patiently(address: &Address) -> Result<Arc<dyn ObjectStore>> {
    let seconds = match std::env::var(PATIENCE) {
        Err(_) => PATIENCE_DEFAULT,
        Ok(value) => PATIENCE_RANGE
            .parse(&value)
            .map_err(|problem| Error::Variable {
                name: PATIENCE,
                value,
                problem,
            })?,
    };
    let retry = RetryConfig {
        max_retries: usize::MAX,
        retry_timeout: Duration::from_secs(seconds),
        ..RetryConfig::default()
    };
    connect(address, retry).map_err(refused(address))
}

/// A store that is asked for the first time: who mistyped something wants to know at once.
pub(super) fn hurriedly(address: &Address) -> Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig {
        max_retries: 2,
        ..RetryConfig::default()
    };
    connect(address, retry).map_err(refused(address))
}

fn connect(address: &Address, retry: RetryConfig) -> object_store::Result<Arc<dyn ObjectStore>> {
    let url = address.to_string();
    Ok(match address.service {
        Service::S3 => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(url)
                .with_retry(retry)
                .with_http_connector(Connector)
                .build()?,
        ),
        Service::Gcs => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url)
                .with_retry(retry)
                .with_http_connector(Connector)
                .build()?,
        ),
        Service::Azure => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url)
                .with_retry(retry)
                .with_http_connector(Connector)
                .build()?,
        ),
    })
}

/// The error of a store that can't be opened.
pub(super) fn refused(address: &Address) -> impl Fn(Refusal) -> Error {
    move |source| Error::Remote {
        action: "open",
        url: address.to_string(),
        hint: hint(address.service, &source),
        source: Box::new(source),
    }
}

fn hint(service: Service, refusal: &Refusal) -> &'static str {
    // Of lists it is told in words alone.
    let missing = refusal.to_string().contains("status code: 404");
    match (missing, service) {
        (true, _) => "make the bucket first, or correct its name",
        (_, Service::S3) => {
            "s3:// is reached by AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; servers other than \
             Amazon's also by AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http://)"
        }
        (_, Service::Gcs) => {
            "gs:// is reached by GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT: the path of a \
             key file"
        }
        (_, Service::Azure) => {
            "az:// is reached by AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
        }
    }
}
