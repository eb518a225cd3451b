//! Reading imports off source text: enough of Rust's grammar for code that rustfmt has laid out.

/// A path that code names, from the crate's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its line, from 1.
    pub(crate) line: usize,
    /// Its segments without `crate`; a last `*` for everything.
    pub(crate) path: Vec<String>,
    /// Under which name the file knows it; nothing for a path in an expression.
    pub(crate) alias: Option<String>,
    /// Whether others may import it from here.
    pub(crate) public: bool,
}

/// What a file of the crate names of the crate, outside tests.
pub(crate) fn named(module: &[String], text: &str) -> Vec<Named> {
    let code = without_tests(&without_text(text));
    let children = children(&code);
    let mut found = Vec::new();
    let mut rest = String::with_capacity(code.len());
    let mut at = 0;
    for (start, end, public) in uses(&code) {
        rest.push_str(&code[at..start]);
        rest.push_str(&blank(&code[start..end]));
        at = end;
        let line = 1 + code[..start].matches('\n').count();
        for (path, alias) in tree(after_use(&code[start..end])) {
            if let Some(path) = absolute(module, &children, &path) {
                let alias = Some(alias);
                found.push(Named {
                    line,
                    path,
                    alias,
                    public,
                });
            }
        }
    }
    rest.push_str(&code[at..]);
    let modules: Vec<Named> = found.clone();
    for (line, path) in paths(&rest) {
        let known = modules.iter().find(|m| m.alias.as_ref() == Some(&path[0]));
        let path = match known {
            // `fsio::read` where `fsio` was imported: what is meant is behind the import.
            Some(known) if path.len() > 1 => [&known.path[..], &path[1..]].concat(),
            _ => match absolute(module, &children, &path) {
                Some(path) => path,
                None => continue,
            },
        };
        found.push(Named {
            line,
            path,
            alias: None,
            public: false,
        });
    }
    found
}

/// The modules that a file declares.
fn children(code: &str) -> Vec<String> {
    let declared = |line: &str| {
        let name = line.trim().strip_suffix(';')?.rsplit_once("mod ")?.1;
        Some(name.to_owned())
    };
    code.lines().filter_map(declared).collect()
}

/// A path from the crate's root; nothing for one of another crate.
fn absolute(module: &[String], children: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|s| s == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        first if children.iter().any(|c| c == first) => {}
        _ => return None,
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The `use` statements: where each starts and ends, and whether it is public in any way.
fn uses(code: &str) -> Vec<(usize, usize, bool)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let text = line.trim_start();
        let public = text.starts_with("pub ") || text.starts_with("pub(");
        let inner = match text.starts_with("pub(") {
            true => text.split_once(") ").map_or("", |(_, rest)| rest),
            false => text.strip_prefix("pub ").unwrap_or(text),
        };
        if inner.starts_with("use ") {
            let end = code[start..]
                .find(';')
                .map_or(code.len(), |e| start + e + 1);
            found.push((start, end, public));
        }
        start += line.len();
    }
    found
}

/// The tree of a `use` statement.
fn after_use(statement: &str) -> &str {
    let tree = statement.split_once("use ").map_or("", |(_, tree)| tree);
    tree.trim_end_matches(';').trim()
}

/// The leaves of a tree of imports, each with the name it is known by.
fn tree(text: &str) -> Vec<(Vec<String>, String)> {
    let (prefix, last) = match text.find('{') {
        Some(brace) => (&text[..brace], &text[brace..]),
        None => text.rsplit_once("::").map_or(("", text), |(p, l)| (p, l)),
    };
    let prefix: Vec<String> = segments(prefix);
    let Some(inner) = last.strip_prefix('{') else {
        let (name, alias) = last.split_once(" as ").unwrap_or((last, last));
        let path = match name.trim() {
            "self" => prefix,
            name => [prefix, vec![name.to_owned()]].concat(),
        };
        let alias = match alias.trim() {
            "self" => path.last().cloned().unwrap_or_default(),
            alias => alias.to_owned(),
        };
        return vec![(path, alias)];
    };
    let inner = inner.trim_end().trim_end_matches('}');
    let leaf = |part: &str| {
        let leaves = tree(part.trim()).into_iter();
        leaves.map(|(path, alias)| {
            let path = [&prefix[..], &path[..]].concat();
            let alias = match alias.is_empty() {
                true => path.last().cloned().unwrap_or_default(),
                false => alias,
            };
            (path, alias)
        })
    };
    split(inner).into_iter().flat_map(leaf).collect::<Vec<_>>()
}

/// Cuts at the commas that stand in no inner braces.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn segments(path: &str) -> Vec<String> {
    let parts = path.split("::").map(str::trim);
    parts.filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// The paths of more than one segment in code, with their lines.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for text in line.split(|c| !word(c)).filter(|t| t.contains("::")) {
            let path = segments(text.trim_matches(':'));
            if path.len() > 1 && !text.starts_with("::") {
                found.push((number + 1, path));
            }
        }
    }
    found
}

/// The code with comments and the insides of strings and characters blanked, line for line.
fn without_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |e| e + 2),
            '"' => string(rest),
            'r' if raw_hashes(rest).is_some() && !out.ends_with(word) => raw(rest),
            '\'' => character(rest),
            _ => 0,
        };
        match length {
            0 => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
            length => {
                out.push_str(&blank(&rest[..length]));
                rest = &rest[length..];
            }
        }
    }
    out
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Spaces instead of everything but line ends.
fn blank(text: &str) -> String {
    let space = |c| if c == '\n' { '\n' } else { ' ' };
    text.chars().map(space).collect()
}

/// Length of a string literal at the start of `text`.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How many `#` a raw string at the start of `text` has, if one is there.
fn raw_hashes(text: &str) -> Option<usize> {
    let after = text[1..].trim_start_matches('#');
    let hashes = text.len() - 1 - after.len();
    after.starts_with('"').then_some(hashes)
}

fn raw(text: &str) -> usize {
    let hashes = raw_hashes(text).unwrap_or_default();
    let close = format!("\"{}", "#".repeat(hashes));
    let open = 2 + hashes;
    let end = text[open..].find(&close);
    end.map_or(text.len(), |end| open + end + close.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    if text[1..].starts_with('\\') {
        return text[3..].find('\'').map_or(0, |end| 3 + end + 1);
    }
    let mut chars = text.char_indices().skip(2);
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

/// The code with what only tests see blanked.
fn without_tests(code: &str) -> String {
    const TEST: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(TEST) {
        out.push_str(&rest[..start]);
        let item = &rest[start..];
        let end = item_end(item);
        out.push_str(&blank(&item[..end]));
        rest = &item[end..];
    }
    out + rest
}

/// Where the item at the start of `code` ends: at its `;`, or at the brace that closes it.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}
