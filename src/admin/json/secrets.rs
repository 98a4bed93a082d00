//! What of a configuration may be shown.

use serde_json::Value;

/// Leaves passwords in URLs out: of `scheme://user:password@host`, `scheme://user@host` is left.
pub(in crate::admin) fn without_secrets(mut document: Value) -> Value {
    hide(&mut document);
    document
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(shown) = without_password(text) {
                *text = shown;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Object(values) => values.values_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `None` if there is none in it.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    // A password with a slash must be escaped in a URL, but is none the less secret if it is not:
    // the last @ ends it.
    let (user_and_password, host) = rest.rsplit_once('@')?;
    let (user, _password) = user_and_password.split_once(':')?;
    Some(format!("{scheme}://{user}@{host}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn passwords_in_urls_are_left_out_and_nothing_else() {
        let document = json!({
            "store": "postgres://corelane:s3/cr:et@db:5432/accounts?sslmode=require",
            "list": ["postgres://corelane@db", "127.0.0.1:8700", "a:b@c", "http://[::1]:80/"],
            "number": 1,
        });
        let shown = json!({
            "store": "postgres://corelane@db:5432/accounts?sslmode=require",
            "list": ["postgres://corelane@db", "127.0.0.1:8700", "a:b@c", "http://[::1]:80/"],
            "number": 1,
        });
        assert_eq!(without_secrets(document), shown);
    }
}
