use std::path::Path;

use crate::judge::reading::*;

fn axes(classifier: &str) -> Axes {
    let text = format!(
        "[template]\nneutral = \"a {{prompt}}\"\nspecific = \"a {{age}} {{prompt}}\"\n\
         [[axis]]\nname = \"age\"\nvalues = [\"young\", \"adult\"]\n{classifier}"
    );
    Axes::parse(&text, Path::new("axes.toml")).unwrap()
}

fn answers(output: &str, labels: &[(&str, f32)]) -> Attributes {
    let labels = labels.iter().map(|(l, p)| ((*l).to_owned(), *p)).collect();
    Attributes {
        axes: BTreeMap::from([(output.to_owned(), labels)]),
        ..Attributes::default()
    }
}

fn chain(labels: &str) -> ChainManifest {
    let text = format!(
        "name = \"test\"\n[[model]]\npath = \"m.onnx\"\ninput = \"x\"\nsize = [8, 8]\n\
         [[model.output]]\noutput = \"o\"\naxis = \"age\"\nlabels = {labels}"
    );
    toml::from_str(&text).unwrap()
}

/// A chain whose "young" are older than the axis'.
const CLASHING: &str = "classifier = { output = \"age\", \
     labels = { child = \"young\", young = \"adult\", old = \"adult\" } }";

#[test]
fn kept_answers_are_read_as_fresh_ones() {
    let seen = answers("age", &[("child", 0.4), ("young", 0.5), ("old", 0.1)]);
    let (with, without) = (axes(CLASHING), Meanings::default());
    let meanings = Meanings::of(Some(&with));
    let meaning = meanings.iter().next().unwrap();
    let fresh = meaning.read(&seen).unwrap();
    assert_eq!(fresh.dominant, 1);
    assert!((fresh.shares[1] - 0.6).abs() < 1e-6);
    // Whether the filter that kept them knew the axes or not.
    for kept in [meanings.keep(&seen), without.keep(&seen)] {
        assert_eq!(meaning.read(&kept).unwrap().dominant, 1, "{kept:?}");
        assert_eq!(meanings.values(&kept)["age"], Some("adult"));
    }
    // Without the axes the chain's names are all there is.
    assert_eq!(without.values(&without.keep(&seen))["age"], Some("young"));
}

#[test]
fn an_axis_is_not_counted_beside_the_output_that_tells_it() {
    let axes =
        axes("classifier = { output = \"years\", labels = { a = \"young\", b = \"adult\" } }");
    let meanings = Meanings::of(Some(&axes));
    let seen = answers("years", &[("a", 0.3), ("b", 0.7)]);
    let raw = Meanings::default().keep(&seen);
    assert_eq!(
        meanings.values(&raw),
        BTreeMap::from([("age", Some("adult"))])
    );
    let kept = meanings.keep(&seen);
    assert_eq!(
        kept["age"],
        BTreeMap::from([("young".into(), 0.3), ("adult".into(), 0.7)])
    );
    assert_eq!(
        meanings.values(&kept),
        BTreeMap::from([("age", Some("adult"))])
    );
}

#[test]
fn a_label_of_no_value_contends() {
    let axes = axes("");
    let meaning = Meaning::of(&axes.axes()[0]);
    let read = |labels: &[(&str, f32)]| meaning.read(&answers("age", labels));
    let some = read(&[("young", 0.5), ("adult", 0.25), ("statue", 0.25)]).unwrap();
    assert_eq!((some.dominant, some.shares), (0, vec![0.5, 0.25]));
    let none = read(&[("young", 0.25), ("adult", 0.25), ("statue", 0.5)]);
    assert_eq!(none, Err(Silence::Meaningless("statue".into())));
    // Of equals the first by name, wherever it stands.
    assert_eq!(read(&[("young", 0.5), ("adult", 0.5)]).unwrap().dominant, 1);
    let other = meaning.read(&answers("gender", &[("male", 1.0)]));
    assert_eq!(other, Err(Silence::Unmeasured));
}

#[test]
fn what_the_file_says_of_the_chain_must_be_so() {
    let check = |classifier: &str, labels: &str| {
        let axes = axes(classifier);
        let found = Meanings::of(Some(&axes)).check(&chain(labels));
        found.map_err(|misfit| format!("{misfit}: {}", misfit.problem))
    };
    assert_eq!(check("", "[\"young\", \"adult\", \"statue\"]"), Ok(()));
    assert_eq!(check(CLASHING, "[\"child\", \"young\", \"old\"]"), Ok(()));
    let elsewhere = CLASHING.replace("output = \"age\"", "output = \"years\"");
    for (classifier, labels, expected) in [
        (
            elsewhere.as_str(),
            "[\"child\"]",
            "axis.age.classifier.output: it measures no `years`, only age",
        ),
        (
            CLASHING,
            "[\"child\", \"young\"]",
            "axis.age.classifier.labels: it has no label `old`, only child, young",
        ),
        (
            "",
            "[\"Junior\", \"adult\"]",
            "axis.age.classifier.labels: it has no label for `young`, only Junior, adult",
        ),
    ] {
        assert_eq!(check(classifier, labels), Err(expected.to_owned()));
    }
    // An axis that the file names nothing for may be unmeasured.
    let other = axes("");
    let mut unmeasured = chain("[\"male\"]");
    unmeasured.models[0].outputs[0].axis = "gender".into();
    assert_eq!(Meanings::of(Some(&other)).check(&unmeasured), Ok(()));
}
