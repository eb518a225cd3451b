//! A hub on this machine: answers as the real one does, and misbehaves as asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use popalign::base::fsio::sha256_bytes;

/// The commit that every branch is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The token that opens `org/private`.
pub(crate) const TOKEN: &str = "hf_test";

/// What the server does wrong.
#[derive(Default, Clone, Copy)]
pub(crate) struct Faults {
    /// How many transfers of large files break off in the middle.
    pub(crate) cuts: usize,
    /// Ranges are ignored: everything is sent from the start.
    pub(crate) no_ranges: bool,
    /// One byte of every large file is another.
    pub(crate) corrupt: bool,
    /// The name of a file that the list has besides.
    pub(crate) extra: Option<&'static str>,
    /// What stands for every ETag.
    pub(crate) etag: Option<&'static str>,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Whether it came to the host that large files are sent by.
    pub(crate) cdn: bool,
}

struct State {
    root: PathBuf,
    faults: Mutex<Faults>,
    log: Mutex<Vec<Request>>,
    cdn: String,
}

/// The hub and, on another port, the host that it sends large files from. Both end with the test.
pub(crate) struct HubServer {
    pub(crate) url: String,
    state: Arc<State>,
}

impl HubServer {
    /// Serves the folder `root` as the repositories `org/tiny` and `org/private`.
    pub(crate) fn new(root: &Path, faults: Faults) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let cdn = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = |l: &TcpListener| format!("http://{}", l.local_addr().unwrap());
        let state = Arc::new(State {
            root: root.to_path_buf(),
            faults: Mutex::new(faults),
            log: Mutex::default(),
            cdn: url(&cdn),
        });
        let server = Self {
            url: url(&hub),
            state: Arc::clone(&state),
        };
        for (listener, cdn) in [(hub, false), (cdn, true)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that has gone away is no failure of the server.
                    let _ = state.answer(stream, cdn);
                }
            });
        }
        server
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream, cdn: bool) -> std::io::Result<()> {
        let Some(request) = read(&stream, cdn)? else {
            return Ok(());
        };
        self.log.lock().unwrap().push(request.clone());
        if cdn {
            let name = request.path.trim_start_matches("/cdn/").to_owned();
            return self.send(&mut stream, &request, &name, true);
        }
        let private = request.path.contains("org/private");
        let authorized = request.headers.get("authorization") == Some(&format!("Bearer {TOKEN}"));
        if private && !authorized {
            return reply(
                &mut stream,
                "401 Unauthorized",
                "X-Error-Code: RepoNotFound\r\n",
                b"",
            );
        }
        let path = request.path.replace("org/private", "org/tiny");
        let known = path.ends_with("/revision/main") || path.ends_with("/revision/v1%2Fx");
        if path.starts_with("/api/models/org/tiny/revision/") && known {
            return reply(&mut stream, "200 OK", "", self.list().as_bytes());
        }
        match path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")) {
            // Relative redirects are how the hub answers for renamed repositories.
            Some("README.md") => {
                let to = format!("Location: /org/tiny/resolve/{COMMIT}/moved/README.md\r\n");
                reply(&mut stream, "307 Temporary Redirect", &to, b"")
            }
            Some(name) => {
                let name = name.trim_start_matches("moved/").to_owned();
                self.resolve(&mut stream, &request, &name)
            }
            None => reply(&mut stream, "404 Not Found", "", b""),
        }
    }

    fn list(&self) -> String {
        let mut files = Vec::new();
        walk(&self.root, &self.root, &mut files);
        files.extend(self.faults.lock().unwrap().extra.map(str::to_owned));
        let siblings: Vec<_> = files
            .iter()
            .map(|f| serde_json::json!({"rfilename": f}))
            .collect();
        serde_json::json!({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).to_string()
    }

    /// Small files come from the hub, large ones from elsewhere.
    fn resolve(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        name: &str,
    ) -> std::io::Result<()> {
        let Ok(bytes) = fs::read(self.root.join(name)) else {
            return reply(
                stream,
                "404 Not Found",
                "X-Error-Code: EntryNotFound\r\n",
                b"",
            );
        };
        if !name.ends_with(".safetensors") {
            return self.send(stream, request, name, false);
        }
        let etag = sha256_bytes(&bytes);
        let etag = self.faults.lock().unwrap().etag.unwrap_or(&etag).to_owned();
        let headers = format!(
            "Location: {}/cdn/{name}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\n\
             X-Repo-Commit: {COMMIT}\r\nETag: \"not-this-one\"\r\n",
            self.cdn,
            bytes.len()
        );
        reply(stream, "302 Found", &headers, b"")
    }

    /// Sends a file, or the rest of it from the range's start.
    fn send(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        name: &str,
        large: bool,
    ) -> std::io::Result<()> {
        let mut bytes = fs::read(self.root.join(name))?;
        let mut faults = self.faults.lock().unwrap();
        if large && faults.corrupt {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        let range = request.headers.get("range").filter(|_| !faults.no_ranges);
        let start = range.map(|r| r.trim_start_matches("bytes=").trim_end_matches('-'));
        let start: Option<usize> = start.map(|s| s.parse().unwrap());
        let total = bytes.len();
        // Named by git's hash, which is 40 digits.
        let mut headers = format!(
            "ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
            &sha256_bytes(&bytes)[..40]
        );
        let status = match start {
            Some(start) => {
                write!(
                    headers,
                    "Content-Range: bytes {start}-{}/{total}\r\n",
                    total - 1
                )
                .unwrap();
                "206 Partial Content"
            }
            None => "200 OK",
        };
        let body = &bytes[start.unwrap_or(0)..];
        write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}"
        )?;
        write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        if large && faults.cuts > 0 {
            faults.cuts -= 1;
            return stream.write_all(&body[..body.len() / 2]);
        }
        stream.write_all(body)
    }
}

fn read(stream: &TcpStream, cdn: bool) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(None);
    };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    Ok(Some(Request {
        method,
        path,
        headers,
        cdn,
    }))
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )?;
    stream.write_all(body)
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(root, &path, files),
            false => files.push(
                path.strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            ),
        }
    }
}
