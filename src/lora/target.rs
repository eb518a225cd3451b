//! Which modules PEFT puts an adapter on (`check_target_module_exists` in peft/tuners/tuners_utils.py).
//!
//! PEFT leaves out factors of other modules when it loads an adapter. A file that holds some
//! contradicts itself, and we say so.

use serde_json::Value;

use super::Result;
use super::pattern::Pattern;
use super::settings::Settings;

/// Names of modules.
enum Names {
    /// An expression for the whole name.
    Whole(Pattern),
    /// Names, or what they end with.
    Ends(Vec<String>),
}

impl Names {
    /// A setting; nothing where it isn't set, or names every linear layer.
    fn of(settings: &Settings<'_>, key: &str) -> Result<Option<Self>> {
        match settings.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() || text.to_lowercase() == "all-linear" => {
                Ok(None)
            }
            Some(Value::String(text)) => match Pattern::whole(text) {
                Ok(pattern) => Ok(Some(Self::Whole(pattern))),
                Err(problem) => Err(settings.bad(key, format!("is `{text}`: {problem}"))),
            },
            Some(list) => Ok(Some(Self::Ends(texts(settings, key, list)?))),
        }
    }

    fn covers(&self, name: &str) -> std::result::Result<bool, String> {
        match self {
            Self::Whole(pattern) => pattern.matches(name),
            Self::Ends(ends) => Ok(ends.iter().any(|end| ends_with(name, end))),
        }
    }
}

fn ends_with(name: &str, end: &str) -> bool {
    let before = name.strip_suffix(end);
    before.is_some_and(|b| b.is_empty() || b.ends_with('.'))
}

fn texts(settings: &Settings<'_>, key: &str, list: &Value) -> Result<Vec<String>> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let all = list.as_array().and_then(|l| l.iter().map(text).collect());
    all.ok_or_else(|| settings.bad(key, format!("is {list}, expected names of modules")))
}

/// What an adapter is put on.
pub(super) struct Targets {
    on: Option<Names>,
    not: Option<Names>,
    /// Numbers of layers; of any layer where there are none.
    layers: Vec<u64>,
    /// How a layer's number is found.
    numbers: Vec<Pattern>,
}

impl Targets {
    pub(super) fn of(settings: &Settings<'_>) -> Result<Self> {
        let layers = "layers_to_transform";
        let wrong = |v: &Value| settings.bad(layers, format!("is {v}, expected numbers of layers"));
        let list = |v: &Value| match v {
            Value::Array(items) => items.iter().map(Value::as_u64).collect::<Option<Vec<_>>>(),
            one => one.as_u64().map(|n| vec![n]),
        };
        let names = match settings.get("layers_pattern") {
            None => Vec::new(),
            Some(Value::String(one)) if one.is_empty() => Vec::new(),
            Some(Value::String(one)) => vec![one.clone()],
            Some(all) => texts(settings, "layers_pattern", all)?,
        };
        let numbers = match names.is_empty() {
            true => Pattern::any_layer().map(|any| vec![any]),
            false => names.iter().map(|name| Pattern::layer(name)).collect(),
        };
        Ok(Self {
            on: Names::of(settings, "target_modules")?,
            not: Names::of(settings, "exclude_modules")?,
            layers: settings
                .get(layers)
                .map(|v| list(v).ok_or_else(|| wrong(v)))
                .transpose()?
                .unwrap_or_default(),
            numbers: numbers.map_err(|problem| settings.bad("layers_pattern", problem))?,
        })
    }

    /// Says which setting leaves the module `name` out, if one does.
    pub(super) fn check(&self, name: &str) -> std::result::Result<(), (&'static str, String)> {
        let out = |key| {
            Err((
                key,
                format!("leaves out `{name}`, which the file has factors for"),
            ))
        };
        let at = |key| move |problem| (key, problem);
        if let Some(not) = &self.not
            && not.covers(name).map_err(at("exclude_modules"))?
        {
            return out("exclude_modules");
        }
        let Some(on) = &self.on else { return Ok(()) };
        if !on.covers(name).map_err(at("target_modules"))? {
            return out("target_modules");
        }
        // A module that is named in full is taken whatever its layer.
        let Names::Ends(ends) = on else { return Ok(()) };
        if self.layers.is_empty() || ends.iter().any(|end| end == name) {
            return Ok(());
        }
        for pattern in &self.numbers {
            if let Some(index) = pattern.index(name).map_err(at("layers_pattern"))? {
                return match self.layers.contains(&index) {
                    true => Ok(()),
                    false => out("layers_to_transform"),
                };
            }
        }
        out("layers_to_transform")
    }
}
