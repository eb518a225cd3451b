use std::fs;
use std::io::Write;

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
    // Which of the two is the file system's.
    assert_ne!(link_or_copy(&a, &b).unwrap(), Linked::Copied);
    assert_ne!(link_or_copy(&a, &b).unwrap(), Linked::Copied);
    assert_eq!(read_to_string(&b).unwrap(), "weights");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_copy_is_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    write(&a, "weights").unwrap();
    link_or_copy(&a, &b).unwrap();
    assert_ne!(copy(&a, &b).unwrap(), Linked::Hard);
    fs::write(&a, "changed").unwrap();
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
