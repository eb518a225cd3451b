use super::*;

const WORLD: &str = r#"
    [template]
    neutral = "a photo of a {prompt}"
    specific = ["a photo of a {age} {gender} {prompt}", "a photo of a {age} {prompt}"]
    [[axis]]
    name = "gender"
    values = ["female", "male"]
    text = { female = "woman" }
    classifier = { output = "sex", labels = { Woman = "female", Man = "male" } }
    [[axis]]
    name = "age"
    values = ["young", "mid", "old"]
    target = [0.25, 0.25, 0.5]
"#;

fn parse(text: &str) -> Result<Axes, Error> {
    Axes::parse(text, Path::new("axes.toml"))
}

#[test]
fn captions_are_the_product_of_the_named_axes() {
    let axes = parse(WORLD).unwrap();
    assert_eq!(axes.neutral("doctor"), "a photo of a doctor");
    let all = axes.specific("doctor");
    assert_eq!(all.len(), 6 + 3);
    assert_eq!(all[0].caption, "a photo of a young woman doctor");
    assert_eq!(all[1].caption, "a photo of a mid woman doctor");
    assert_eq!(all[5].values["gender"], "male");
    assert_eq!(all[5].values["age"], "old");
    assert_eq!(all[6].caption, "a photo of a young doctor");
    assert!(!all[6].values.contains_key("gender"));
    assert_eq!(axes.axis("gender").unwrap().target, [0.5, 0.5]);
    assert_eq!(axes.axis("age").unwrap().target, [0.25, 0.25, 0.5]);
}

#[test]
fn a_caption_says_where_it_names_its_values() {
    let text = WORLD
        .replacen(
            "{age} {gender} {prompt}\"",
            "{age} {gender} {prompt}, {gender}\"",
            1,
        )
        .replacen("\"woman\"", "\" woman \"", 1);
    let all = parse(&text).unwrap().specific("old woman");
    let said = |index: usize, axis: &str| -> Vec<String> {
        let Specific {
            caption, places, ..
        } = &all[index];
        let places = places.get(axis).into_iter().flatten();
        places
            .map(|p| format!("{}: {}", p.start, &caption[p.clone()]))
            .collect()
    };
    assert_eq!(
        all[2].caption,
        "a photo of a old  woman  old woman,  woman "
    );
    assert_eq!(said(2, "gender"), ["18: woman", "37: woman"]);
    assert_eq!(said(2, "age"), ["13: old"]);
    assert_eq!(said(6, "gender"), [""; 0]);
}

#[test]
fn a_prompt_with_braces_is_text() {
    assert_eq!(parse(WORLD).unwrap().neutral("{age}"), "a photo of a {age}");
}

#[test]
fn an_article_is_written_where_the_file_asks() {
    let said = |text: &str, prompt: &str| parse(text).unwrap().specific(prompt).pop();
    let plain = said(WORLD, "a doctor").unwrap().caption;
    assert_eq!(plain, "a photo of a old a doctor");
    let asked = WORLD.replace("of a {", "of {a} {");
    for prompt in ["a doctor", "doctor", "A doctor"] {
        assert_eq!(
            parse(&asked).unwrap().neutral("an actor"),
            "a photo of an actor"
        );
        assert_eq!(
            said(&asked, prompt).unwrap().caption,
            "a photo of an old doctor"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (
            "{age} {gender} {prompt}",
            "{aeg} {gender} {prompt}",
            "unknown axis {aeg}",
        ),
        (
            "of a {prompt}\"\n",
            "of a {gender} {prompt}\"\n",
            "unknown axis {gender}",
        ),
        ("of a {prompt}\"\n", "of a thing\"\n", "has no {prompt}"),
        ("a {prompt}\"\n", "a {prompt\"\n", "without `}`"),
        ("[0.25, 0.25, 0.5]", "[0.25, 0.25]", "expected 3 shares"),
        ("[0.25, 0.25, 0.5]", "[0.5, 0.5, 0.5]", "add up to 1"),
        (
            "Man = \"male\"",
            "Man = \"man\"",
            "\"man\" is not one of the values",
        ),
        (", Man = \"male\"", "", "no label means \"male\""),
        ("\"female\", \"male\"", "\"male\"", "two or more"),
        ("name = \"age\"", "name = \"gender\"", "stands twice"),
        (
            "text = { female = \"woman\" }",
            "text = { female = \"male\" }",
            "two captions are",
        ),
        ("target", "targets", "targets"),
        ("name = \"age\"", "name = \"a\"", "\"a\" can't be an axis"),
        (
            "a photo of a {age} {prompt}",
            "{a} {prompt}",
            "names no axis",
        ),
    ];
    for (from, to, expected) in cases {
        let text = WORLD.replacen(from, to, 1);
        assert_ne!(text, WORLD, "{from}");
        let error = parse(&text).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let message = format!("{error} {}", source.unwrap_or_default());
        assert!(message.contains(expected), "{from} -> {to}: {message}");
    }
}

#[test]
fn the_template_with_most_axes_names_a_person() {
    let axes = parse(WORLD).unwrap();
    let names: Vec<&str> = axes.named().iter().map(|axis| axis.name.as_str()).collect();
    assert_eq!(names, ["gender", "age"]);
    let values = [("gender", "female"), ("age", "old")];
    let values = values.map(|(axis, value)| (axis.to_owned(), value.to_owned()));
    let caption = axes.naming("doctor", &values.into());
    assert_eq!(caption, "a photo of a old woman doctor");
}

#[test]
fn edits_say_a_value_of_nobody_in_particular() {
    assert_eq!(
        parse(WORLD).unwrap().axis("gender").unwrap().edits,
        ["woman person", "male person"]
    );
    let own =
        |edit: &str| parse(&WORLD.replacen("values", &format!("edit = \"{edit}\"\nvalues"), 1));
    let axes = own("{a} {value}, alone").unwrap();
    assert_eq!(axis_edits(&axes), ["a woman, alone", "a male, alone"]);
    for bad in ["a person", "{value} {prompt}", "{value"] {
        let error = own(bad).unwrap_err().to_string();
        assert!(error.contains("axis.gender.edit"), "{error}");
    }
}

fn axis_edits(axes: &Axes) -> &[String] {
    &axes.axis("gender").unwrap().edits
}
