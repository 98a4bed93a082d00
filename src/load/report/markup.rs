//! Text made safe for HTML and SVG, and the few elements that reports are made of.

use std::fmt::Write as _;

/// Text as it may stand in an element or in an attribute's quotes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Neither HTML nor XML has a way to write these.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A row of a table: what it is about, and what stands in its columns.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) cells: Vec<String>,
}

/// A table of texts: numbers are set to the right, words to the left.
pub(super) struct Table<'a> {
    /// `numbers` or `words`.
    pub(super) class: &'a str,
    /// Headings of the columns, the labels' own first; none if the rows say it all. As markup.
    pub(super) headings: Vec<String>,
    /// As markup.
    pub(super) rows: Vec<Row>,
}

impl Table<'_> {
    pub(super) fn markup(&self) -> String {
        // A table that is wider than the page is to scroll, and not the page.
        let mut html = format!(
            "<div class=\"scroll\"><table class=\"{}\">\n",
            escape(self.class)
        );
        if !self.headings.is_empty() {
            html.push_str("<thead><tr>");
            for heading in &self.headings {
                let _ = write!(html, "<th scope=\"col\">{heading}</th>");
            }
            html.push_str("</tr></thead>\n");
        }
        html.push_str("<tbody>\n");
        for row in &self.rows {
            let _ = write!(html, "<tr><th scope=\"row\">{}</th>", row.label);
            for cell in &row.cells {
                let _ = write!(html, "<td>{cell}</td>");
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }
}

/// A part of the page under a heading; `content` is markup.
pub(super) fn section(heading: &str, content: &str) -> String {
    let heading = escape(heading);
    format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_leave_its_place() {
        assert_eq!(
            escape("<a href=\"x\" id='y'>&\0</a>"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}&lt;/a&gt;"
        );
        assert_eq!(escape("Ryzen\u{a0}9\n"), "Ryzen\u{a0}9\n");
    }
}
