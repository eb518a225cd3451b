//! The one way to write a file.
//!
//! A reader never sees half of anything: contents go to a temporary file in the target's own
//! folder, are flushed to the disk, and are renamed over the target; the folder is flushed too, so
//! that the rename itself survives a power cut. A failed write leaves the old file as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

/// A failed file operation, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    /// What was tried: "write", "read", "create" …
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

/// Result of a file operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What the names of files and folders being written begin with. A kill can leave some.
pub const PARTIAL: &str = ".partial-";

/// Makes the error of an operation on `path` from the operating system's reason.
pub(crate) fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + Copy {
    move |source| Error {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// A file being written: nothing appears under its name until [`AtomicFile::commit`].
///
/// Dropping it without a commit removes the temporary file.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temp: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts writing `path`. Its folder must exist.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        // A temporary file is private by default; what replaces a file should be as readable as
        // any file the user creates.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let temp = builder
            .tempfile_in(parent(&path))
            .map_err(at("write", &path))?;
        Ok(Self {
            path,
            temp: BufWriter::with_capacity(1 << 20, temp),
        })
    }

    /// Flushes to the disk and puts the file under its name.
    pub fn commit(self) -> Result<()> {
        let Self { path, temp } = self;
        let temp = temp
            .into_inner()
            .map_err(|e| at("write", &path)(e.into_error()))?;
        temp.as_file().sync_all().map_err(at("write", &path))?;
        temp.persist(&path)
            .map_err(|e| at("write", &path)(e.error))?;
        sync_dir(parent(&path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.flush()
    }
}

/// Writes `bytes` to `path`, whole or not at all.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes.as_ref()).map_err(at("write", path))?;
    file.commit()
}

/// Reads a whole file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    fs::read(path.as_ref()).map_err(at("read", path.as_ref()))
}

/// Reads a whole UTF-8 file.
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    fs::read_to_string(path.as_ref()).map_err(at("read", path.as_ref()))
}

/// Creates a folder and its parents.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    fs::create_dir_all(path.as_ref()).map_err(at("create", path.as_ref()))
}

/// Removes a file; one that is not there is fine.
pub fn remove_if_present(path: impl AsRef<Path>) -> Result<()> {
    match fs::remove_file(path.as_ref()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("remove", path.as_ref())(e)),
        _ => Ok(()),
    }
}

/// Removes what killed writers left in a folder. Nobody else may be writing there.
pub fn remove_partial(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(at("remove", &path))?;
        } else {
            remove_if_present(&path)?;
        }
    }
    Ok(())
}

/// How a file came to stand under a second name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// Both names are one file: no bytes were copied.
    Hard,
    /// The target is on another file system; its bytes were copied.
    Copied,
}

/// Gives `source`'s bytes the name `target`, without copying them where the file system allows.
///
/// An existing `target` is replaced. Symbolic links in `source` are followed, so that what is
/// linked is the file itself (ONNX Runtime refuses symbolic links as external data).
pub fn link_or_copy(source: &Path, target: &Path) -> Result<Linked> {
    let real = fs::canonicalize(source).map_err(at("read", source))?;
    let holder = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempdir_in(parent(target))
        .map_err(at("write", target))?;
    let temp = holder.path().join("link");
    if fs::hard_link(&real, &temp).is_ok() {
        fs::rename(&temp, target).map_err(at("write", target))?;
        // Renaming onto a name of the same file does nothing and leaves the first name; the
        // holder removes it.
        sync_dir(parent(target))?;
        return Ok(Linked::Hard);
    }
    let mut from = File::open(&real).map_err(at("read", &real))?;
    let mut to = AtomicFile::create(target)?;
    io::copy(&mut from, &mut to).map_err(at("write", target))?;
    to.commit()?;
    Ok(Linked::Copied)
}

/// A file that is fetched piece by piece, by several processes one after the other: what was
/// written stays as `NAME.incomplete` until [`Resumable::commit`] gives it its name.
#[derive(Debug)]
pub struct Resumable {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    len: u64,
}

impl Resumable {
    /// Goes on with the file `name` in `dir`, or starts it. Nobody else may be writing it.
    pub fn open(dir: impl AsRef<Path>, name: &str) -> Result<Self> {
        let partial = dir.as_ref().join(format!("{name}.incomplete"));
        let failed = at("write", &partial);
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&partial);
        let file = file.map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(Self {
            path: dir.as_ref().join(name),
            partial,
            file,
            len,
        })
    }

    /// Bytes that are there.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a length to go on from, not a container"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(at("write", &self.partial))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Starts from the beginning.
    pub fn truncate(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(at("write", &self.partial))?;
        self.len = 0;
        Ok(())
    }

    /// SHA-256 of what is there.
    pub fn sha256(&self) -> Result<String> {
        sha256(&self.partial)
    }

    /// Flushes to the disk and puts the file under its name.
    pub fn commit(self) -> Result<()> {
        let Self {
            path,
            partial,
            file,
            ..
        } = self;
        file.sync_all().map_err(at("write", &partial))?;
        fs::rename(&partial, &path).map_err(at("write", &path))?;
        sync_dir(parent(&path))
    }
}

/// Makes `link` a symbolic link to `target`, which is relative to the link's folder; where the
/// system has none, a second name of the file. What has the name already is replaced.
pub fn symlink(target: &Path, link: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let holder = tempfile::Builder::new()
            .prefix(PARTIAL)
            .tempdir_in(parent(link))
            .map_err(at("write", link))?;
        let temp = holder.path().join("link");
        std::os::unix::fs::symlink(target, &temp).map_err(at("write", link))?;
        fs::rename(&temp, link).map_err(at("write", link))?;
        sync_dir(parent(link))
    }
    #[cfg(not(unix))]
    link_or_copy(&parent(link).join(target), link).map(|_| ())
}

/// A folder being written: nothing appears under its name until [`AtomicDir::commit`].
///
/// Dropping it without a commit removes what was written.
#[derive(Debug)]
pub struct AtomicDir {
    path: PathBuf,
    temp: TempDir,
}

impl AtomicDir {
    /// Starts writing the folder `path`, beside it. Its parent must exist.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let temp = builder
            .tempdir_in(parent(&path))
            .map_err(at("write", &path))?;
        Ok(Self { path, temp })
    }

    /// Where to write its files meanwhile.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Puts the folder under its name. A folder that has the name is exchanged for it in one step
    /// where the system can, and then removed.
    pub fn commit(self) -> Result<()> {
        let Self { path, temp } = self;
        sync_dir(temp.path())?;
        if !path.exists() {
            fs::rename(temp.path(), &path).map_err(at("write", &path))?;
            // The name it is to remove is gone.
            let _ = temp.keep();
            return sync_dir(parent(&path));
        }
        if exchange(temp.path(), &path).is_err() {
            // Two steps: between them the name is free, but nothing is lost.
            let old = temp.path().with_extension("old");
            fs::rename(&path, &old).map_err(at("replace", &path))?;
            fs::rename(temp.path(), &path).map_err(at("write", &path))?;
            let _ = temp.keep();
            fs::remove_dir_all(&old).map_err(at("remove", &old))?;
            return sync_dir(parent(&path));
        }
        sync_dir(parent(&path))?;
        // What was there has the temporary name now.
        temp.close().map_err(at("remove the old", &path))
    }
}

/// Exchanges two names in one step.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// Exchanges two names in one step; here the system has no call for it.
#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// SHA-256 of a file's bytes, in lower-case hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(at("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(at("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// SHA-256 of bytes, in lower-case hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A file of lines that only grows, for logs that must survive a kill.
///
/// [`Journal::open`] drops a torn last line. Lines reach the disk at [`Journal::sync`].
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates `path` and keeps its leading complete lines for which `keep` is true,
    /// cutting the file at the first line for which it is not (a resume point).
    pub fn open(path: impl Into<PathBuf>, mut keep: impl FnMut(&str) -> bool) -> Result<Self> {
        let path = path.into();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at("read", &path))?;
        let kept: usize = bytes
            .split_inclusive(|&b| b == b'\n')
            .take_while(|line| {
                line.ends_with(b"\n")
                    && std::str::from_utf8(line).is_ok_and(|text| keep(text.trim_end()))
            })
            .map(<[u8]>::len)
            .sum();
        file.set_len(kept as u64).map_err(at("write", &path))?;
        file.seek(SeekFrom::End(0)).map_err(at("write", &path))?;
        Ok(Self { path, file })
    }

    /// Opens or creates `path` and keeps its first `length` bytes.
    pub fn open_at(path: impl Into<PathBuf>, length: u64) -> Result<Self> {
        let path = path.into();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at("open", &path))?;
        file.set_len(length).map_err(at("write", &path))?;
        file.seek(SeekFrom::End(0)).map_err(at("write", &path))?;
        Ok(Self { path, file })
    }

    /// Appends one line; `line` holds no line break.
    pub fn append(&mut self, line: &str) -> Result<()> {
        self.append_bytes(format!("{line}\n").as_bytes())
    }

    /// Appends raw bytes (a framed binary record), in one write.
    pub fn append_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(at("write", &self.path))
    }

    /// Waits until everything appended is on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(at("write", &self.path))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    // Folders can't be opened for flushing on every platform; where they can't, rename is all
    // there is.
    match File::open(dir) {
        Ok(handle) => handle.sync_all().or(Ok(())),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncommitted_file_leaves_the_old_one_and_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_shares_the_file_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write(&a, "weights").unwrap();
        write(&b, "stale").unwrap();
        assert_eq!(link_or_copy(&a, &b).unwrap(), Linked::Hard);
        assert_eq!(link_or_copy(&a, &b).unwrap(), Linked::Hard);
        assert_eq!(read_to_string(&b).unwrap(), "weights");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_replaces_another_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        for round in ["first", "second"] {
            let staged = AtomicDir::create(&path).unwrap();
            write(staged.path().join(round), "").unwrap();
            staged.commit().unwrap();
            assert!(path.join(round).is_file());
        }
        assert!(!path.join("first").exists());
        let staged = AtomicDir::create(&path).unwrap();
        write(staged.path().join("third"), "").unwrap();
        drop(staged);
        assert!(path.join("second").is_file());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_journal_drops_a_torn_line_and_what_the_caller_rejects() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "1\n2\n3\n4").unwrap();
        let mut journal = Journal::open(&path, |line| line != "3").unwrap();
        journal.append("5").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "1\n2\n5\n");
    }

    #[test]
    fn errors_name_the_file() {
        let error = write("/nonexistent-folder/x", "").unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent-folder/x"),
            "{error}"
        );
    }
}
