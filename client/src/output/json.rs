//! JSON: every value as it is, in the unit that its name says.

use serde_json::{Map, Value as Json};

use super::escape::is_harmless;
use super::units::time_text;
use super::value::{Field, Place, Value};

/// One object on one line. Harmful characters in texts stand as escapes, so that it may go to a terminal.
#[must_use]
pub fn to_json(fields: &[Field]) -> String {
    let text = object(fields).to_string();
    if text.chars().all(is_harmless) {
        return text;
    }
    // JSON's own characters are harmless, so the others are inside strings, where an escape may stand.
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmless(c) {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

fn object(fields: &[Field]) -> Json {
    let mut map = Map::new();
    for field in fields.iter().filter(|field| field.place != Place::People) {
        map.insert(field.name.to_owned(), json(&field.value));
        if let (Value::Time(ms), Some(name)) = (&field.value, field.name.strip_suffix("_unix_ms")) {
            map.insert(name.to_owned(), Json::String(time_text(*ms)));
        }
    }
    Json::Object(map)
}

fn json(value: &Value) -> Json {
    match value {
        Value::Absent => Json::Null,
        Value::Text(text) | Value::Word(text) => Json::String(text.clone()),
        Value::Switch(on) => Json::Bool(*on),
        Value::Number(number)
        | Value::Bytes(number)
        | Value::Milliseconds(number)
        | Value::Microseconds(number)
        | Value::Time(number) => Json::from(*number),
        Value::List(values) => Json::Array(values.iter().map(json).collect()),
        Value::Record(fields) => object(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_units_and_strangers_texts_are_exact_and_harmless() {
        let fields = [
            Field::new("user", Value::Word("ada".to_owned())),
            Field::new("bytes_up", Value::Bytes(1536)),
            Field::new("started_unix_ms", Value::Time(1000)),
            Field::new("destination", Value::Text("a\x1b\"\u{9b}\u{202e}\u{e0001}".to_owned())),
            Field::new("origin", Value::Absent),
            Field::for_people("to", Value::Word("x".to_owned())),
            Field::new("ports", vec![1_u16, 2]),
        ];
        let text = to_json(&fields);
        let expected = concat!(
            r#"{"user":"ada","bytes_up":1536,"started_unix_ms":1000,"started":"1970-01-01T00:00:01Z","#,
            r#""destination":"a\u001b\"\u009b\u202e\udb40\udc01","origin":null,"ports":[1,2]}"#,
        );
        assert_eq!(text, expected);
        let back: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(back["destination"], "a\x1b\"\u{9b}\u{202e}\u{e0001}");
    }
}
