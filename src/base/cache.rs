//! Folders in the user's cache.

use std::path::PathBuf;

/// `popalign/<name>` in the user's cache folder.
pub(crate) fn user_cache(name: &str) -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
    base.or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("popalign")
        .join(name)
}
