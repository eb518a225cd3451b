use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fsio::create_dir_all(path.parent().unwrap()).unwrap();
        fsio::write(path, text).unwrap();
    }
    dir
}

#[test]
fn our_rows_bring_kind_axes_and_seed() {
    let rows = concat!(
        r#"{"file_name":"images/a.png","prompt":"a photo of a chef","neutral_prompt":"a photo of a chef","kind":"neutral","axes":{},"seed":7,"image_id":3,"latents":{"file":"x","index":0}}"#,
        "\n",
        r#"{"file_name":null,"prompt":"a photo of a old chef","kind":"specific","axes":{"age":"old"},"seed":7,"image_id":0}"#,
        "\n"
    );
    for (axes, kind) in [("{\"sha256\":\"x\"}", Some(Kind::Neutral)), ("null", None)] {
        let manifest = format!(
            r#"{{"format":"{}","config":{{"axes":{axes}}},"outcome":{{}}}}"#,
            manifest::FORMAT
        );
        let dir = folder(&[(JSONL, rows), (manifest::FILE, &manifest)]);
        let gallery = read(dir.path()).unwrap().unwrap();
        assert_eq!(gallery.layout, Layout::Dataset);
        assert_eq!(gallery.without_files, 1);
        assert_eq!(gallery.pictures[0].kind, kind);
        assert_eq!(gallery.pictures[0].key, "seed 7, picture 3");
    }
    let unfinished = format!(r#"{{"format":"{}","config":{{}}}}"#, manifest::FORMAT);
    let dir = folder(&[(JSONL, rows), (manifest::FILE, &unfinished)]);
    assert!(matches!(read(dir.path()), Err(Error::Unfinished { .. })));
}

#[test]
fn foreign_tables_are_read_by_their_column_names() {
    let jsonl = folder(&[(JSONL, "{\"file_name\":\"a.jpg\",\"text\":\"a cat\"}\n\n")]);
    let csv = folder(&[(CSV, "\u{feff}file_name,license,text\na.jpg,cc0,\"a cat\"\n")]);
    for dir in [jsonl, csv] {
        let gallery = read(dir.path()).unwrap().unwrap();
        assert_eq!(gallery.layout, Layout::Imagefolder);
        let picture = &gallery.pictures[0];
        assert_eq!(
            (picture.name.as_str(), picture.prompt.as_str()),
            ("a.jpg", "a cat")
        );
        assert_eq!((picture.kind, picture.key.as_str()), (None, "a.jpg"));
    }
}

#[test]
fn bad_rows_name_the_line() {
    for (name, text, expected) in [
        (
            JSONL,
            "{\"file_name\":\"a.png\",\"text\":\"x\"}\n{\"file_name\":",
            ".jsonl:2: not a row",
        ),
        (JSONL, "{\"file_name\":\"a.png\"}", ".jsonl:1: no caption"),
        (
            JSONL,
            "{\"file_name\":\"../a.png\",\"text\":\"x\"}",
            "not a path inside",
        ),
        (
            CSV,
            "file,text\na,b\n",
            "no `file_name` column among file, text",
        ),
        (
            CSV,
            "file_name,words\na,b\n",
            "no column `Prompt`, `prompt`, `text` or `caption` among file_name, words",
        ),
        (
            CSV,
            "file_name,text\r\n\r\n1.png,\"a doctor\r\n2.png,a nurse\r\n",
            ".csv:3: the quote that opens here is never closed",
        ),
        (
            JSONL,
            "{\"a_file_name\":\"1.png\",\"b_file_name\":\"2.png\",\"text\":\"x\"}",
            "more than one",
        ),
        (
            "train/metadata.jsonl",
            "\u{feff}{\"file_name\":\"1.png\",\"text\":\"x\"}\r\r{\"file_name\":\"1.png\"}\r",
            "train/metadata.jsonl:3: no caption",
        ),
        (
            PARQUET,
            "PAR1",
            "metadata.parquet: tables of pictures are not read",
        ),
        (
            CSV,
            "file_name,text\na,b\n/etc/x,b\n",
            ".csv:3: `/etc/x` is not a path inside",
        ),
    ] {
        let error = read(folder(&[(name, text)]).path()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// `scripts/oracle/imagefolders.py`.
#[test]
fn imagefolders_are_read_as_hugging_face_reads_them() {
    let frozen = include_str!("../../../../tests/fixtures/score/imagefolders.json");
    let frozen: Value = serde_json::from_str(frozen).unwrap();
    for case in frozen["cases"].as_array().unwrap() {
        let files = case["files"].as_object().unwrap().iter();
        let files: Vec<_> = files
            .map(|(name, text)| (name.as_str(), text.as_str().unwrap_or_default()))
            .collect();
        let dir = folder(&files);
        let gallery = read(dir.path());
        let Some(expected) = case["pictures"].as_array() else {
            assert!(gallery.is_err(), "{case}");
            continue;
        };
        let gallery = gallery.unwrap_or_else(|e| panic!("{case}: {e}")).unwrap();
        let mut found: Vec<Value> = (gallery.pictures.iter())
            .map(|picture| serde_json::json!([picture.name, picture.prompt]))
            .collect();
        found.sort_by_key(ToString::to_string);
        let (files, none): (Vec<_>, Vec<_>) = expected
            .iter()
            .cloned()
            .partition(|picture| !picture[0].is_null());
        assert_eq!(
            (found, gallery.without_files),
            (files, none.len()),
            "{case}"
        );
        assert_eq!(gallery.layout, Layout::Imagefolder);
        for picture in gallery.pictures {
            assert_eq!(
                (picture.kind, &picture.key),
                (None, &picture.name),
                "{case}"
            );
            assert!(
                picture.axes.is_empty() && picture.neutral.is_none(),
                "{case}"
            );
        }
    }
}

#[test]
fn only_a_manifest_gives_columns_our_meaning() {
    let row =
        r#"{"file_name":"1.png","prompt":"x","kind":"neutral","axes":{},"seed":7,"image_id":3}"#;
    let manifest = format!(
        r#"{{"format":"{}","config":{{"axes":"x"}},"outcome":{{}}}}"#,
        manifest::FORMAT
    );
    // One of our data sets among other folders stays ours.
    let dir = folder(&[
        ("a/metadata.jsonl", row),
        ("a/manifest.json", &manifest),
        ("b/metadata.jsonl", row),
        ("b/manifest.json", "{\"format\": \"theirs\"}"),
    ]);
    let gallery = read(dir.path()).unwrap().unwrap();
    let told = |i: usize| (gallery.pictures[i].key.as_str(), gallery.pictures[i].kind);
    assert_eq!(told(0), ("seed 7, picture 3", Some(Kind::Neutral)));
    assert_eq!(told(1), ("b/1.png", None));
    // And what our columns can't mean is no row of ours.
    let bad = row.replace("\"seed\":7", "\"seed\":-1");
    let dir = folder(&[(JSONL, &bad), (manifest::FILE, &manifest)]);
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("metadata.jsonl:1: not a row of a data set"),
        "{error}"
    );
}
