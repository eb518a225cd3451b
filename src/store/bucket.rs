//! Objects under a prefix of S3, Google Cloud Storage, Azure, or a server that speaks like one of them.
//!
//! `object_store` is asynchronous; nothing else here is. A request is waited for on the thread that makes
//! it, and where many are to be made, several threads make them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as ObjectPath;
use object_store::{
    Attribute, Attributes, Error as Refusal, GetOptions, MultipartUpload, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::place::Address;
use super::{Error, Result, connect};
use crate::base::{fsio, slow};

/// Requests at the same time, where there are many.
const HANDS: usize = 16;
/// Bytes of the parts in which large objects travel; services want 5 MiB at least, and at most 10,000 parts.
pub(super) const PART: usize = 16 << 20;
/// Bytes of a first look into an object.
const LOOK: u64 = 64 << 10;
/// Where an object says its SHA-256. It is put with the bytes in one step, and goes with them.
const SHA256: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("sha256"));

/// A prefix in an object store.
#[derive(Debug, Clone)]
pub struct Bucket {
    address: Address,
    objects: Arc<dyn ObjectStore>,
    hands: Arc<ThreadPool>,
    /// Whether objects' bytes are read even where they say their hash.
    pub(super) doubting: bool,
}

/// What an object says of itself.
pub(super) struct Facts {
    pub(super) size: u64,
    /// Its SHA-256, if whoever put it said that.
    pub(super) sha256: Option<String>,
}

impl Bucket {
    /// Speaks to a store for the first time, and only there gives up soon.
    pub(super) fn open(address: &Address) -> Result<Self> {
        let prefix = (!address.prefix.as_ref().is_empty()).then_some(&address.prefix);
        let hurried = connect::hurriedly(address)?;
        let first = slow::call(&format!("waiting to open {address}"), || {
            wait(async { hurried.list(prefix).next().await.transpose() })
        });
        first.map_err(connect::refused(address))?;
        let hands = ThreadPoolBuilder::new().num_threads(HANDS).build();
        let hands = hands.map_err(|error| connect::refused(address)(generic(error)))?;
        Ok(Self {
            address: address.clone(),
            objects: connect::patiently(address)?,
            hands: Arc::new(hands),
            doubting: false,
        })
    }

    /// The bucket and the prefix.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The URL of an object.
    pub(super) fn url(&self, name: &str) -> PathBuf {
        format!("{}/{name}", self.address).into()
    }

    /// What an object says of itself, if it is there.
    pub(super) fn facts(&self, name: &str) -> Result<Option<Facts>> {
        let options = GetOptions::new().with_head(true);
        let found = self.asked("read", name, async {
            self.objects.get_opts(&self.key(name), options).await
        });
        let said = |attributes: &Attributes| {
            let hash: &str = attributes.get(&SHA256)?;
            let is_one = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            is_one.then(|| hash.to_owned())
        };
        Ok(there(found)?.map(|found| Facts {
            size: found.meta.size,
            sha256: said(&found.attributes),
        }))
    }

    /// An object's bytes, if it is there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let bytes = self.asked("read", name, async {
            self.objects.get(&self.key(name)).await?.bytes().await
        });
        Ok(there(bytes)?.map(Vec::from))
    }

    /// An object's bytes as they are asked for.
    pub(super) fn reader(&self, name: &str, size: u64) -> Ranges {
        Ranges {
            bucket: self.clone(),
            name: name.to_owned(),
            size,
            at: 0,
            bytes: io::Cursor::default(),
        }
    }

    /// An object's SHA-256, if it is there: what it says, or what its bytes have.
    pub(super) fn sha256(&self, name: &str) -> Result<Option<String>> {
        let Some(facts) = self.facts(name)? else {
            return Ok(None);
        };
        if let (false, Some(said)) = (self.doubting, facts.sha256) {
            return Ok(Some(said));
        }
        let mut hash = fsio::Hashing::new(io::sink());
        let read = io::copy(&mut self.reader(name, facts.size), &mut hash);
        read.map_err(|error| self.failed("read", name, error))?;
        Ok(Some(hash.end().1))
    }

    /// Puts an object of that hash.
    pub(super) fn write(&self, name: &str, bytes: Vec<u8>, sha256: String) -> Result<()> {
        let options = PutOptions::from(attributes(sha256));
        let (key, bytes) = (self.key(name), PutPayload::from(bytes));
        let put = async { self.objects.put_opts(&key, bytes, options).await };
        let put = self.asked("write", name, put);
        put.map(|_| ())
    }

    /// Puts a large object of that hash.
    pub(super) fn write_parts(&self, name: &str, bytes: impl Read, sha256: String) -> Result<()> {
        let options = PutMultipartOptions::from(attributes(sha256));
        let key = self.key(name);
        let begun = async { self.objects.put_multipart_opts(&key, options).await };
        let mut upload = self.asked("write", name, begun)?;
        let put = self.put_parts(name, bytes, upload.as_mut());
        if put.is_err() {
            // What was sent costs money until somebody says that it won't be used. If this fails too,
            // the first failure is the one to tell.
            let _ = self.asked("write", name, upload.abort());
        }
        put
    }

    fn put_parts(
        &self,
        name: &str,
        mut bytes: impl Read,
        upload: &mut dyn MultipartUpload,
    ) -> Result<()> {
        loop {
            let mut part = Vec::with_capacity(PART);
            let read = (&mut bytes).take(PART as u64).read_to_end(&mut part);
            read.map_err(|error| self.failed("write", name, error))?;
            if part.is_empty() {
                break;
            }
            let sent = self.asked("write", name, upload.put_part(part.into()));
            sent?;
        }
        let done = self.asked("write", name, upload.complete());
        done.map(|_| ())
    }

    /// Removes objects; those that aren't there are fine.
    pub(super) fn remove(&self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let names: Vec<String> = names.into_iter().collect();
        let Some(first) = names.first().cloned() else {
            return Ok(());
        };
        let keys: Vec<_> = names.iter().map(|name| Ok(self.key(name))).collect();
        let removed = self.objects.delete_stream(stream::iter(keys).boxed());
        let removed = removed.try_collect::<Vec<_>>();
        let removed = self.asked("remove", &first, removed);
        there(removed).map(|_| ())
    }

    /// The objects whose names begin with that folder's, and their sizes.
    pub(super) fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>> {
        let key = self.key(folder);
        let key = (!key.as_ref().is_empty()).then_some(key);
        let found = async {
            self.objects
                .list(key.as_ref())
                .try_collect::<Vec<_>>()
                .await
        };
        let found = self.asked("list", folder, found)?;
        let named =
            |object: &object_store::ObjectMeta| Some((self.name(&object.location)?, object.size));
        Ok(found.iter().filter_map(named).collect())
    }

    /// The names right below the prefix, folders' too.
    pub(super) fn entries(&self) -> Result<Vec<String>> {
        let prefix = (!self.address.prefix.as_ref().is_empty()).then_some(&self.address.prefix);
        let found = async { self.objects.list_with_delimiter(prefix).await };
        let found = self.asked("list", "", found)?;
        let objects = found.objects.iter().map(|object| &object.location);
        let all = found.common_prefixes.iter().chain(objects);
        Ok(all.filter_map(|key| self.name(key)).collect())
    }

    /// Does something for many objects at the same time; what comes out stands in their order.
    pub(super) fn each<I: Sync, T: Send>(
        &self,
        doing: &str,
        items: &[I],
        work: impl Fn(&I) -> Result<T> + Sync + Send,
    ) -> Result<Vec<T>> {
        let all = || self.hands.install(|| items.par_iter().map(&work).collect());
        slow::call(
            &format!("{doing} {} files of {}", items.len(), self.address),
            all,
        )
    }

    fn key(&self, name: &str) -> ObjectPath {
        let parts = name.split('/').filter(|part| !part.is_empty());
        self.address
            .prefix
            .parts()
            .chain(parts.map(Into::into))
            .collect()
    }

    /// An object's name below the prefix.
    fn name(&self, key: &ObjectPath) -> Option<String> {
        let parts = key.prefix_match(&self.address.prefix)?;
        let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    }

    /// Asks for something of an object, and says so where that takes long. Of many at the same time
    /// [`Bucket::each`] speaks.
    fn asked<T>(
        &self,
        action: &'static str,
        name: &str,
        request: impl Future<Output = object_store::Result<T>> + Send,
    ) -> Result<T> {
        let url = self.url(name).display().to_string();
        let answer = match rayon::current_thread_index() {
            None => slow::call(&format!("waiting to {action} {url}"), || wait(request)),
            Some(_) => wait(request),
        };
        answer.map_err(|source| Error::Remote {
            action,
            url,
            hint: "what is in the store stays: once it answers, the same command goes on from there",
            source: Box::new(source),
        })
    }

    /// What ended reading or writing an object's bytes.
    pub(super) fn failed(&self, action: &'static str, name: &str, error: io::Error) -> Error {
        fsio::at(action, &self.url(name))(error).into()
    }
}

/// The bytes of an object, in parts that are fetched as they are read: first a small one, for who only wants
/// its beginning.
pub(super) struct Ranges {
    bucket: Bucket,
    name: String,
    size: u64,
    /// Where the next part begins.
    at: u64,
    bytes: io::Cursor<Vec<u8>>,
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        if read > 0 || self.at == self.size || buffer.is_empty() {
            return Ok(read);
        }
        let length = if self.at == 0 { LOOK } else { PART as u64 };
        let range = self.at..(self.at + length).min(self.size);
        self.at = range.end;
        let (bucket, key) = (&self.bucket, self.bucket.key(&self.name));
        let part = async { bucket.objects.get_range(&key, range).await };
        let part = bucket.asked("read", &self.name, part);
        self.bytes = io::Cursor::new(part.map_err(io::Error::other)?.into());
        self.bytes.read(buffer)
    }
}

/// Waits for an answer on this thread.
fn wait<T>(request: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Between two tries it sleeps.
    let runtime = runtime.enable_time().build().map_err(generic)?;
    runtime.block_on(request)
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Refusal {
    Refusal::Generic {
        store: "local",
        source: Box::new(error),
    }
}

/// What was asked of an object, if there is one.
fn there<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Remote { source, .. }) if matches!(*source, Refusal::NotFound { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn attributes(sha256: String) -> Attributes {
    Attributes::from_iter([(SHA256, sha256)])
}
