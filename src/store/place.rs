//! Where files are: a folder, or a URL.

use std::fmt;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser, ValueParser, ValueParserFactory};
use object_store::ObjectStoreScheme;
use object_store::path::Path as ObjectPath;
use url::Url;

use crate::base::fsio;

/// A folder, or a prefix in an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A URL as in `s3://bucket/prefix`.
    Remote(Address),
}

/// A prefix in an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As it was written, without slashes at its end.
    text: String,
    /// Who answers there.
    pub(super) service: Service,
    /// What the names of its objects begin with.
    pub(super) prefix: ObjectPath,
}

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    S3,
    Gcs,
    Azure,
}

/// A text that is meant as a URL, and isn't one of an object store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a folder, or a URL as in s3://bucket/prefix, gs://bucket/prefix or az://container/prefix{0}"
)]
pub struct NoPlace(&'static str);

impl Place {
    /// What an option says: everything is a folder that doesn't begin as a URL.
    ///
    /// # Errors
    /// [`NoPlace`] for URLs of no object store.
    pub fn new(path: PathBuf) -> Result<Self, NoPlace> {
        match path.to_str().filter(|_| fsio::is_url(&path)) {
            Some(text) => Address::new(text).map(Self::Remote),
            None => Ok(Self::Folder(path)),
        }
    }
}

impl Address {
    fn new(text: &str) -> Result<Self, NoPlace> {
        let url = Url::parse(text).map_err(|_| NoPlace(""))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(NoPlace("; in a URL `?` is %3F and `#` is %23"));
        }
        // One slash, as in s3:/bucket, is a URL too, of no host.
        let named = url.host_str().is_some_and(|host| !host.is_empty());
        let known = ObjectStoreScheme::parse(&url).ok().filter(|_| named);
        let (scheme, prefix) = known.ok_or(NoPlace(""))?;
        let service = match scheme {
            ObjectStoreScheme::AmazonS3 => Service::S3,
            ObjectStoreScheme::GoogleCloudStorage => Service::Gcs,
            ObjectStoreScheme::MicrosoftAzure => Service::Azure,
            _ => return Err(NoPlace("")),
        };
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            service,
            prefix,
        })
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::Folder(PathBuf::new())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(dir) => dir.display().fmt(f),
            Self::Remote(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ValueParserFactory for Place {
    type Parser = ValueParser;

    fn value_parser() -> ValueParser {
        PathBufValueParser::new().try_map(Self::new).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_folders() {
        let of = |text: &str| Place::new(text.into());
        for folder in ["out", "/a/b", "a:b", "./s3:/x", "C:/x", "", "a//b"] {
            assert_eq!(of(folder), Ok(Place::Folder(folder.into())));
        }
        let remote = |text: &str| match of(text) {
            Ok(Place::Remote(address)) => (address.service, address.prefix.to_string()),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(remote("s3://bucket/a/b/"), (Service::S3, "a/b".into()));
        assert_eq!(remote("s3://bucket"), (Service::S3, String::new()));
        assert_eq!(remote("gs://bucket/a%20b"), (Service::Gcs, "a b".into()));
        assert_eq!(remote("az://container/a"), (Service::Azure, "a".into()));
        let long = "https://me.blob.core.windows.net/container/a";
        assert_eq!(remote(long), (Service::Azure, "a".into()));
        assert_eq!(of("s3://bucket/a/").unwrap().to_string(), "s3://bucket/a");
        for wrong in [
            "s3:/bucket/a",
            "s3://",
            "s3:///a",
            "ftp://host/a",
            "file:///a",
            "memory:///a",
            "https://example.com/a",
            "s3://bucket/a?b",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
