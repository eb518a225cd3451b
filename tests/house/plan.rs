//! The house: which file imports which, and what is wrong with that.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Named, named};

/// The files of a crate, by their paths from its folder, and what they hold.
pub(crate) type Files = BTreeMap<String, String>;

/// One file imports something of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    line: usize,
    to: String,
    /// What is imported.
    name: String,
}

/// What breaks the order of the rooms (bottom up), and the circles between files; each names its
/// lines.
pub(crate) fn problems(files: &Files, rooms: &[&str]) -> Vec<String> {
    let arrows = arrows(files);
    let mut problems = Vec::new();
    let floor = |file: &str| rooms.iter().position(|room| *room == room_of(file));
    for file in files.keys().filter(|f| *f != "src/lib.rs") {
        if floor(file).is_none() {
            problems.push(format!("{file} stands in no room"));
        }
    }
    for arrow in &arrows {
        if floor(&arrow.to) > floor(&arrow.from) {
            problems.push(format!("upwards: {}", arrow.text()));
        }
    }
    problems.extend(circles(&arrows));
    problems
}

impl Arrow {
    fn text(&self) -> String {
        let Arrow {
            from,
            line,
            to,
            name,
        } = self;
        format!("{from}:{line} imports {name} of {to}")
    }
}

/// The folder, or the file, right below `src`.
fn room_of(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    let room = inside.split('/').next().unwrap_or(inside);
    room.strip_suffix(".rs").unwrap_or(room)
}

/// The module that a file is.
fn module_of(file: &str) -> Vec<String> {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut path: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if path
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        path.pop();
    }
    path
}

fn arrows(files: &Files) -> BTreeSet<Arrow> {
    let modules: BTreeMap<Vec<String>, &str> =
        files.keys().map(|f| (module_of(f), f.as_str())).collect();
    let code = files.iter().filter(|(file, _)| !is_test(file));
    let names: BTreeMap<&str, Vec<Named>> = code
        .map(|(file, text)| (file.as_str(), named(&module_of(file), text)))
        .collect();
    let house = House { modules, names };
    let mut arrows = BTreeSet::new();
    for (&file, names) in &house.names {
        for found in names {
            // A room's face: it hands on what stands inside it, and takes nothing.
            let own = module_of(file);
            if found.public && found.path.starts_with(&own) {
                continue;
            }
            let whole_module = house.modules.contains_key(&found.path);
            for to in house.definers(&found.path, 0) {
                // Through a module's name only its items are taken, and those are found as paths;
                // but what room it stands in counts.
                if to == file || whole_module && room_of(to) == room_of(file) {
                    continue;
                }
                arrows.insert(Arrow {
                    from: file.to_owned(),
                    line: found.line,
                    to: to.to_owned(),
                    name: found.path.join("::"),
                });
            }
        }
    }
    arrows
}

/// Whether a whole file is for tests.
fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs")
}

struct House<'a> {
    modules: BTreeMap<Vec<String>, &'a str>,
    names: BTreeMap<&'a str, Vec<Named>>,
}

impl<'a> House<'a> {
    /// The files that define what a path names: through the faces that hand it on.
    fn definers(&self, path: &[String], depth: usize) -> BTreeSet<&'a str> {
        let longest = (0..=path.len()).rev();
        let Some(length) = longest
            .into_iter()
            .find(|&n| self.modules.contains_key(&path[..n]))
        else {
            return BTreeSet::new();
        };
        let (module, rest) = path.split_at(length);
        let file = self.modules[module];
        // Re-exports that lead in a circle define nothing.
        if rest.is_empty() || depth > 8 {
            return BTreeSet::from([file]);
        }
        let handed_on = |found: &&Named| {
            found.public
                && (found.alias.as_deref() == Some(&rest[0]) || found.alias.as_deref() == Some("*"))
        };
        let all: Vec<&Named> = self.names.get(file).into_iter().flatten().collect();
        let mut through: Vec<&Named> = all.into_iter().filter(handed_on).collect();
        if through.iter().any(|n| n.alias.as_deref() != Some("*")) {
            through.retain(|n| n.alias.as_deref() != Some("*"));
        }
        if through.is_empty() {
            return BTreeSet::from([file]);
        }
        let inner = |found: &Named| {
            let target = match found.path.split_last() {
                Some((last, module)) if last == "*" => [module, &rest[..1]].concat(),
                _ => found.path.clone(),
            };
            self.definers(&target, depth + 1)
        };
        through.into_iter().flat_map(inner).collect()
    }
}

/// The circles between files, each by the imports that make it.
fn circles(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    let mut out: BTreeMap<&str, Vec<&Arrow>> = BTreeMap::new();
    for arrow in arrows {
        out.entry(&arrow.from).or_default().push(arrow);
    }
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for &start in out.keys() {
        if done.contains(start) {
            continue;
        }
        if let Some(circle) = circle_through(start, &out) {
            done.extend(circle.iter().map(|arrow| arrow.from.as_str()));
            let lines: Vec<String> = circle.iter().map(|arrow| arrow.text()).collect();
            found.push(format!("a circle: {}", lines.join("; ")));
        }
    }
    found
}

/// A shortest way from a file back to itself.
fn circle_through<'a>(
    start: &'a str,
    out: &BTreeMap<&str, Vec<&'a Arrow>>,
) -> Option<Vec<&'a Arrow>> {
    let mut came: BTreeMap<&str, &Arrow> = BTreeMap::new();
    let mut now = vec![start];
    while !now.is_empty() {
        let mut next = Vec::new();
        for file in now {
            for &arrow in out.get(file).into_iter().flatten() {
                if came.contains_key(arrow.to.as_str()) {
                    continue;
                }
                came.insert(&arrow.to, arrow);
                if arrow.to == start {
                    let mut circle = vec![arrow];
                    while circle[0].from != start {
                        circle.insert(0, came[circle[0].from.as_str()]);
                    }
                    return Some(circle);
                }
                next.push(arrow.to.as_str());
            }
        }
        now = next;
    }
    None
}
