//! Folders without a table: prompts are the names of sub-folders, or stand in a file beside each
//! picture.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::captions;
use super::folder::{Gallery, Layout, Picture};
use crate::base::fsio;
use crate::picture::format::{Format, HEAD, is_picture_name};
use crate::score::Result;

pub(super) fn read(dir: &Path) -> Result<Gallery> {
    let files = files(dir, &is_picture)?;
    let beside = |file: &PathBuf| captions::beside(&dir.join(file));
    let captions: Vec<Option<String>> = files.iter().map(beside).collect::<Result<_>>()?;
    let without = captions.iter().filter(|caption| caption.is_none()).count();
    let (layout, notes) = match without < files.len() {
        false => (Layout::Folders, Vec::new()),
        true => (Layout::Sidecars, note(dir, without, files.len())),
    };
    let pictures = files.iter().zip(captions).map(|(file, caption)| {
        let name = slashed(file);
        Picture {
            prompt: caption.unwrap_or_else(|| folder_name(dir, file)),
            kind: None,
            axes: BTreeMap::new(),
            neutral: None,
            key: name.clone(),
            name,
        }
    });
    Ok(Gallery {
        dir: dir.to_path_buf(),
        layout,
        pictures: pictures.collect(),
        without_files: 0,
        unlisted: Vec::new(),
        notes,
        config: None,
    })
}

/// What is said where some pictures have a caption beside them and others don't.
fn note(dir: &Path, without: usize, all: usize) -> Vec<String> {
    let dir = dir.display();
    let note = format!(
        "{dir}: {without} of {all} pictures have no caption beside them; their folder's name is theirs"
    );
    (without > 0).then_some(note).into_iter().collect()
}

/// The files in `dir` and its sub-folders that are `wanted`, relative to it, sorted: the order in which a
/// file system lists names is its own. Hidden files and folders are passed over, and links to folders
/// are not followed: they may lead in a circle.
pub(super) fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(dir, dir, wanted, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(
    root: &Path,
    dir: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let failed = fsio::at("read", dir);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            collect(root, &path, wanted, files)?;
        } else if wanted(&path) {
            files.extend(path.strip_prefix(root).map(Path::to_path_buf));
        }
    }
    Ok(())
}

/// Whether a file is a link to one that isn't there.
fn leads_nowhere(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// Whether a file is a picture: by its name, or else by its first bytes. Those that can't be read are
/// counted as such later.
pub(super) fn is_picture(path: &Path) -> bool {
    if !path.is_file() && !leads_nowhere(path) {
        return false;
    }
    is_picture_name(path) || begins_as_picture(path)
}

fn begins_as_picture(path: &Path) -> bool {
    let read = || {
        let mut head = Vec::new();
        let file = fs::File::open(path).ok()?.take(HEAD as u64);
        std::io::BufReader::new(file).read_to_end(&mut head).ok()?;
        Format::of(&head)
    };
    read().is_some_and(Format::is_told_by_bytes)
}

/// The prompt that a picture's place says: the folders between `root` and the picture, or the
/// name of `root`.
fn folder_name(root: &Path, file: &Path) -> String {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => slashed(parent),
        _ => {
            let named = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
            let name = named.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        }
    }
}

pub(super) fn slashed(path: &Path) -> String {
    let parts = path.components().map(|c| c.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_folder_names_or_stand_beside_the_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("doctors");
        for folder in ["a doctor", "a nurse/seed 1", ".cache"] {
            fsio::create_dir_all(root.join(folder)).unwrap();
        }
        for file in [
            "a doctor/2.PNG",
            "a doctor/10.jpg",
            "a nurse/seed 1/1.jpeg",
            ".cache/1.png",
            "a doctor/.partial-1.png",
            "a doctor/notes.txt",
            "flat.png",
        ] {
            fsio::write(root.join(file), "").unwrap();
        }
        let gallery = read(&root).unwrap();
        let prompts: Vec<_> = gallery
            .pictures
            .iter()
            .map(|p| (p.name.as_str(), p.prompt.as_str()))
            .collect();
        assert_eq!(
            prompts,
            [
                ("a doctor/10.jpg", "a doctor"),
                ("a doctor/2.PNG", "a doctor"),
                ("a nurse/seed 1/1.jpeg", "a nurse/seed 1"),
                ("flat.png", "doctors"),
            ]
        );
        assert_eq!(gallery.layout, Layout::Folders);

        let sidecar = r#"{"file_path": "x/2.png", "prompt": "a photo of a male doctor"}"#;
        fsio::write(root.join("a doctor/2.json"), sidecar).unwrap();
        let gallery = read(&root).unwrap();
        assert_eq!(gallery.layout, Layout::Sidecars);
        assert_eq!(gallery.pictures[1].prompt, "a photo of a male doctor");
        assert_eq!(gallery.pictures[0].prompt, "a doctor");
    }
}
