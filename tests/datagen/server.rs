//! A real S3 server (`s3s`) whose objects are files, in the test's own process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Who may do everything, and who may only look.
const WRITER: [&str; 2] = ["writer", "the writer's secret"];
const READER: [&str; 2] = ["reader", "the reader's secret"];

const BUCKET: &str = "bucket";

/// The server, until it is dropped.
pub(crate) struct Server {
    root: TempDir,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

struct Rights;

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let looks = ["Get", "Head", "List"];
        let looks = looks
            .iter()
            .any(|verb| context.s3_op().name().starts_with(verb));
        match context.credentials() {
            Some(who) if looks || who.access_key == WRITER[0] => Ok(()),
            _ => Err(s3_error!(AccessDenied)),
        }
    }
}

impl Server {
    /// Starts one, with an empty bucket.
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut server = Self {
            root,
            address: ([127, 0, 0, 1], 0).into(),
            runtime: None,
        };
        server.go_on();
        server
    }

    /// Ends it at once, with all connections.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Starts it at the same address, with the objects it had.
    pub(crate) fn go_on(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let mut auth = SimpleAuth::new();
        for [key, secret] in [WRITER, READER] {
            auth.register(key.to_owned(), secret.into());
        }
        let mut service = S3ServiceBuilder::new(FileSystem::new(self.root.path()).unwrap());
        service.set_auth(auth);
        service.set_access(Rights);
        runtime.spawn(serve(listener, service.build()));
        self.runtime = Some(runtime);
    }

    /// The variables by which it is reached.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let [key, secret] = WRITER;
        vec![
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// The same for who may only look.
    pub(crate) fn looking(&self) -> Vec<(&'static str, String)> {
        let [key, secret] = READER;
        let own = self
            .environment()
            .into_iter()
            .map(|(name, value)| match name {
                "AWS_ACCESS_KEY_ID" => (name, key.to_owned()),
                "AWS_SECRET_ACCESS_KEY" => (name, secret.to_owned()),
                _ => (name, value),
            });
        own.collect()
    }

    /// Puts an object as another program would, which says nothing of its hash.
    pub(crate) fn put(&self, key: &str, text: &str) {
        let path = self.objects(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let [bucket, key] = [BUCKET, key].map(|name| URL_SAFE_NO_PAD.encode(name));
        let facts = format!(".bucket-{bucket}.object-{key}.metadata.json");
        let _ = std::fs::remove_file(self.root.path().join(facts));
    }

    /// A prefix's URL.
    pub(crate) fn url(prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The folder of the objects under a prefix.
    pub(crate) fn objects(&self, prefix: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(prefix)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let http = Builder::new(TokioExecutor::new());
    while let Ok((socket, _)) = listener.accept().await {
        let connection = http.serve_connection(TokioIo::new(socket), service.clone());
        tokio::spawn(connection.into_owned());
    }
}
