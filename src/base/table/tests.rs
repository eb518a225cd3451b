use super::*;

fn parse(text: &str) -> Result<Table, Malformed> {
    Table::parse(text, ',')
}

/// `scripts/oracle/tables.py`.
#[test]
fn tables_are_read_as_pandas_reads_them() {
    let frozen = include_str!("../../../tests/fixtures/tables/pandas.json");
    let frozen: Value = serde_json::from_str(frozen).unwrap();
    let strings = |value: &Value| -> Vec<String> {
        let cells = value.as_array().unwrap().iter();
        cells.map(|c| c.as_str().unwrap().to_owned()).collect()
    };
    for case in frozen["cases"].as_array().unwrap() {
        let delimiter = case["delimiter"].as_str().unwrap().chars().next().unwrap();
        let table = Table::parse(case["text"].as_str().unwrap(), delimiter);
        if case.get("refused").is_some() {
            assert!(table.is_err(), "{case}: {table:?}");
            continue;
        }
        let table = table.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(table.columns, strings(&case["columns"]), "{case}");
        let rows: Vec<Vec<String>> = table.rows.into_iter().map(|row| row.cells).collect();
        let expected: Vec<Vec<String>> = case["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(strings)
            .collect();
        assert_eq!(rows, expected, "{case}");
    }
}

#[test]
fn a_quote_that_is_not_closed_names_the_line_on_which_it_opens() {
    for (text, line) in [
        ("Prompt\n\"a photo of a doctor\nnurse\nchef\npilot\n", 2),
        ("Prompt\r\"a photo of a doctor\rnurse\r", 2),
        ("Prompt\r\n\r\ndoctor\r\n\"nurse\r\nchef\r\n", 4),
        ("a,b\n\"two\nlines\",1\nx,\"y\n", 4),
        ("\"a,b\n1,2\n", 1),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.problem.contains("never closed"), "{error}");
    }
    // pandas takes the next row's opening quote for the closing one.
    for text in [
        "file_name,text\n1.png,\"a doctor\n2.png,\"a nurse\n3.png,chef\n",
        "file_name,text\n1.png,\"a doctor\n2.png,\"a nurse\"\n",
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        assert!(error.problem.contains("closed before line 3"), "{error}");
    }
}

#[test]
fn rows_know_their_lines() {
    let table = parse("a,b\r\n\r\n\"two\r\nlines\",1\r\nx,2\ry,3\n").unwrap();
    let lines: Vec<usize> = table.rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [3, 5, 6]);
    let error = parse("a,b\n1,2\n1,2,3\n").unwrap_err();
    assert_eq!((error.line, &error.problem[..7]), (3, "3 cells"));
    assert_eq!(parse("").unwrap().columns, [""; 0]);
}

#[test]
fn the_first_of_columns_with_one_name_counts() {
    let objects = parse("a,a\n1,2\n").unwrap().objects();
    assert_eq!(
        Value::from(objects[0].1.clone()),
        serde_json::json!({"a": "1"})
    );
}
