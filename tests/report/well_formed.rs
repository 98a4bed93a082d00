//! Whether a page is well-formed: each element is closed where it must be, attributes are quoted,
//! and nothing is fetched or run.

/// Elements that have no content.
const VOID: [&str; 2] = ["meta", "br"];

/// What would run a program or ask another file or host.
const FORBIDDEN: [&str; 8] = [
    "<script", "<link", "<img", "<iframe", "href=", "src=", "url(", "@import",
];

/// Fails if the page is not well-formed; gives back its text with the tags taken out and apostrophes as such.
#[track_caller]
pub(crate) fn text_of(html: &str) -> String {
    for forbidden in FORBIDDEN {
        assert!(!html.contains(forbidden), "the page has {forbidden}");
    }
    let mut rest = html
        .strip_prefix("<!doctype html>")
        .expect("a doctype first");
    let mut open: Vec<&str> = Vec::new();
    let mut text = String::new();
    while let Some((before, tag)) = rest.split_once('<') {
        if open.last() != Some(&"style") {
            assert!(!before.contains('>'), "a stray > in {before:?}");
            text.push_str(before);
            text.push(' ');
        }
        let (tag, after) = tag.split_once('>').expect("every tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in the wrong place");
            continue;
        }
        let name = tag.split([' ', '\n', '/']).next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
        assert!(tag.matches('"').count().is_multiple_of(2), "<{tag}>");
        assert_eq!(
            tag.ends_with('/'),
            VOID.contains(&name) || is_shape(name, tag),
            "<{tag}>"
        );
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "left open");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("&#39;", "'")
}

/// Shapes of SVG close themselves.
fn is_shape(name: &str, tag: &str) -> bool {
    tag.ends_with('/') && ["polyline", "line", "circle", "rect"].contains(&name)
}
