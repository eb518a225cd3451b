//! Whole folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::folder::{PARTIAL, parent, sync_dir};
use super::pending::Pending;
use super::{Result, at};

/// A folder being written: nothing appears under its name until [`AtomicDir::commit`].
///
/// Dropping it without a commit removes what was written.
#[derive(Debug)]
pub struct AtomicDir {
    path: PathBuf,
    temp: TempDir,
    pending: Pending,
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
        let (temp, pending) =
            Pending::new(|| builder.tempdir_in(parent(&path))).map_err(at("write", &path))?;
        Ok(Self {
            path,
            temp,
            pending,
        })
    }

    /// Where to write its files meanwhile.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Puts the folder under its name. A folder that has the name is exchanged for it in one step
    /// where the system can, and then removed.
    pub fn commit(self) -> Result<()> {
        // What is exchanged for it is removed under the same name: that stays listed to the end.
        let Self {
            path,
            temp,
            pending: _pending,
        } = self;
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
