//! What in a Markdown file is to be typed.

/// A piece of code, with the line where it begins.
pub(crate) struct Text {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Command lines of indented blocks; those that a backslash continues are one. Comments are cut.
pub(crate) fn commands(markdown: &str) -> Vec<Text> {
    let mut found: Vec<Text> = Vec::new();
    let mut open = false;
    for (line, text) in (1..).zip(markdown.lines()) {
        let Some(text) = text.strip_prefix("    ") else {
            open = false;
            continue;
        };
        let text = text.split(" #").next().unwrap_or_default().trim();
        let (text, more) = match text.strip_suffix('\\') {
            Some(text) => (text.trim(), true),
            None => (text, false),
        };
        match found.last_mut().filter(|_| open) {
            Some(last) => last.text = format!("{} {text}", last.text),
            None => found.push(Text {
                line,
                text: text.to_owned(),
            }),
        }
        open = more;
    }
    found
}

/// Code between backticks, also over a line's end.
pub(crate) fn spans(markdown: &str) -> Vec<Text> {
    let mut found = Vec::new();
    let mut line = 1;
    for (i, text) in markdown.split('`').enumerate() {
        if i % 2 == 1 {
            found.push(Text {
                line,
                text: text.to_owned(),
            });
        }
        line += text.matches('\n').count();
    }
    found
}
