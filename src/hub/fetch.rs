//! Getting bytes over HTTP: redirects, resuming, checks.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::{Error, Hub, Result};
use crate::base::fsio::Resumable;

/// Tries without a new byte before giving up.
const TRIES: u32 = 5;
/// The first pause between tries; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);
/// The hub sends large files to another host; this many hops are more than it makes.
const HOPS: usize = 10;
/// Largest list of files that is read.
const LISTING: u64 = 64 << 20;
/// Bytes between two calls of the progress function.
const CHUNK: usize = 1 << 20;

/// What is being fetched, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) id: &'a str,
    pub(super) what: &'a str,
}

impl What<'_> {
    fn answer(self, problem: impl Into<String>) -> Error {
        Error::Answer {
            id: self.id.to_owned(),
            what: self.what.to_owned(),
            problem: problem.into(),
        }
    }

    fn connection(self, problem: &dyn std::fmt::Display) -> Error {
        Error::Connection {
            id: self.id.to_owned(),
            what: self.what.to_owned(),
            problem: problem.to_string(),
        }
    }

    fn status(self, status: u16) -> Error {
        let (id, what) = (self.id.to_owned(), self.what.to_owned());
        match status {
            401 | 403 => Error::Denied { id, what, status },
            404 => Error::NotFound { id, what },
            _ => self.connection(&format!("HTTP {status}")),
        }
    }
}

/// What the hub says about a file before its bytes are fetched.
#[derive(Debug)]
pub(super) struct Head {
    /// Its name among the cache's blobs: a hash of its contents.
    pub(super) etag: String,
    /// Its length.
    pub(super) size: u64,
}

/// One client for all requests of a run.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    token: Option<String>,
    /// Host and port that the token is for.
    home: Option<String>,
}

/// Whether redirects to other hosts are followed.
#[derive(Clone, Copy, PartialEq)]
enum Follow {
    Everywhere,
    SameHost,
}

impl Client {
    pub(super) fn new(hub: &Hub) -> Self {
        let config = Agent::config_builder()
            // Redirects are followed here, because the token must not go to other hosts.
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("popalign/", env!("CARGO_PKG_VERSION")));
        Self {
            agent: config.build().new_agent(),
            token: hub.token.clone(),
            home: authority(&hub.endpoint),
        }
    }

    /// The body of a small answer.
    pub(super) fn text(&self, what: What<'_>, url: &str) -> Result<Vec<u8>> {
        let mut response = patiently(|| {
            let response = self.request(what, url, None, Follow::Everywhere, false)?;
            successful(what, response)
        })?;
        let body = response
            .body_mut()
            .with_config()
            .limit(LISTING)
            .read_to_vec();
        body.map_err(|e| what.connection(&e))
    }

    /// Asks for a file's hash and length.
    pub(super) fn head(&self, what: What<'_>, url: &str) -> Result<Head> {
        // A redirect to another host comes with the headers wanted; the host has others.
        let response = patiently(|| {
            let response = self.request(what, url, None, Follow::SameHost, true)?;
            match response.status().is_redirection() {
                true => Ok(response),
                false => successful(what, response),
            }
        })?;
        let headers = response.headers();
        let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
        let etag = etag
            .unwrap_or_default()
            .trim_start_matches("W/")
            .trim_matches('"');
        // It becomes a file name.
        if etag.is_empty() || !etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(what.answer(format!("has the ETag `{etag}`, expected a hash")));
        }
        let size = header(headers, "x-linked-size").or_else(|| header(headers, "content-length"));
        let size = size.and_then(|s| s.parse().ok());
        Ok(Head {
            etag: etag.to_owned(),
            size: size.ok_or_else(|| what.answer("doesn't say how long the file is"))?,
        })
    }

    /// Appends to `file` what it lacks of the `head.size` bytes at `url`, going on where a
    /// connection broke; then checks their hash, if the hub gave one. `progress` gets the bytes
    /// that are there, and says whether to stop.
    pub(super) fn fill(
        &self,
        what: What<'_>,
        url: &str,
        head: &Head,
        file: &mut Resumable,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        if file.len() > head.size {
            file.truncate()?;
        }
        let mut tries = 0;
        while file.len() < head.size {
            let before = file.len();
            let broken = match self.stretch(what, url, head, file, progress) {
                Ok(()) => what.connection(&format!("the connection broke at byte {}", file.len())),
                Err(error) => error,
            };
            tries = if file.len() > before { 1 } else { tries + 1 };
            let over = !matches!(broken, Error::Connection { .. }) || tries >= TRIES;
            match file.len() == head.size {
                true => break,
                false if over => return Err(broken),
                false => std::thread::sleep(PAUSE * 2u32.pow(tries - 1)),
            }
        }
        // Files in git's large file storage are named by their sha256, others by git's sha1.
        if head.etag.len() == 64 {
            let found = file.sha256()?;
            if found != head.etag.to_lowercase() {
                file.truncate()?;
                return Err(Error::Corrupt {
                    id: what.id.to_owned(),
                    what: what.what.to_owned(),
                    expected: head.etag.clone(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// One connection's worth of a file.
    fn stretch(
        &self,
        what: What<'_>,
        url: &str,
        head: &Head,
        file: &mut Resumable,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let start = file.len();
        let response = self.request(what, url, Some(start), Follow::Everywhere, false)?;
        let mut response = successful(what, response)?;
        if response.status().as_u16() == 206 {
            let range = header(response.headers(), "content-range").unwrap_or_default();
            if !range.starts_with(&format!("bytes {start}-")) {
                return Err(what.answer(format!("is the range `{range}`, expected byte {start}")));
            }
        } else {
            // The server sends everything from the start.
            file.truncate()?;
        }
        let mut body = response.body_mut().as_reader().take(head.size - file.len());
        let mut buffer = vec![0; CHUNK];
        loop {
            // A signal cuts a read short; the next one goes on.
            let read = match body.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.map_err(|e| what.connection(&e))?,
            };
            if read == 0 {
                return Ok(());
            }
            file.append(&buffer[..read])?;
            if progress(file.len()) {
                return Err(Error::Interrupted);
            }
        }
    }

    /// One request, with its redirects.
    fn request(
        &self,
        what: What<'_>,
        url: &str,
        from: Option<u64>,
        follow: Follow,
        head: bool,
    ) -> Result<Response<Body>> {
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let mut request = if head {
                self.agent.head(&url)
            } else {
                self.agent.get(&url)
            };
            // Lengths and ranges must count the bytes as they are stored.
            request = request.header("Accept-Encoding", "identity");
            if let Some(token) = self.token.as_ref().filter(|_| authority(&url) == self.home) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(from) = from {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| what.connection(&e))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(next) = header(response.headers(), "location").map(|to| absolute(to, &url))
            else {
                return Err(what.answer("redirects to nowhere"));
            };
            if follow == Follow::SameHost && authority(&next) != authority(&url) {
                return Ok(response);
            }
            url = next;
        }
        Err(what.answer(format!("redirects more than {HOPS} times")))
    }
}

/// Tries again what fails for reasons that may pass.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for tries in 0..TRIES - 1 {
        match attempt() {
            Err(Error::Connection { .. }) => std::thread::sleep(PAUSE * 2u32.pow(tries)),
            done => return done,
        }
    }
    attempt()
}

fn successful(what: What<'_>, response: Response<Body>) -> Result<Response<Body>> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(what.status(response.status().as_u16())),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port of a URL: what a token is for.
fn authority(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// A redirect's target, which may be a path on the same host.
fn absolute(location: &str, from: &str) -> String {
    match (location.starts_with('/'), authority(from)) {
        (true, Some(host)) => format!("{host}{location}"),
        _ => location.to_owned(),
    }
}

/// A path as part of a URL.
pub(super) fn escaped(path: &str, keep_slashes: bool) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || (byte == b'/' && keep_slashes) {
            out.push(byte.into());
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_and_paths_become_urls() {
        let from = "https://hub.test:8/a/b?c";
        assert_eq!(absolute("/x?y", from), "https://hub.test:8/x?y");
        assert_eq!(absolute("http://cdn.test/z", from), "http://cdn.test/z");
        assert_eq!(escaped("refs/pr/3", false), "refs%2Fpr%2F3");
        assert_eq!(escaped("unet/a b#.json", true), "unet/a%20b%23.json");
    }
}
