//! Settings in the environment.

use figment::{Figment, value::Value};

const PREFIX: &str = "HEADPOND_";

/// The dotted key and value that a variable sets, if it is a setting.
///
/// Text stays text where the setting below it is text or a credential, so that a name or a key of digits alone is not
/// taken for a number.
pub(super) fn setting(figment: &Figment, name: &str, value: &str) -> Option<(String, Value)> {
    let rest = name.strip_prefix(PREFIX)?;
    if !rest.contains("__") {
        return None;
    }
    let key = rest.to_lowercase().replace("__", ".");
    let textual = key.starts_with("credentials.") || matches!(figment.find_value(&key), Ok(Value::String(..)));
    let value = if textual { Value::from(value) } else { parse(value) };
    Some((key, value))
}

/// A TOML value, or else the text itself.
fn parse(text: &str) -> Value {
    let document = format!("value = {text}");
    let parsed: Option<figment::value::Dict> = toml::from_str(&document).ok();
    parsed.and_then(|mut dict| dict.remove("value").filter(|_| dict.is_empty())).unwrap_or_else(|| text.into())
}
