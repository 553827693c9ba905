//! Text from files inside a page.

use std::fmt;

/// Shows a text so that HTML and SVG read it as text, in an element and in a quoted attribute.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            let (plain, special) = rest.split_at(at);
            let name = match special.as_bytes()[0] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            };
            f.write_str(plain)?;
            f.write_str(name)?;
            rest = &special[1..];
        }
        f.write_str(rest)
    }
}

/// JSON inside a `<script>`: no text in it can end the element.
pub fn script_json(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        let text = Escaped("<b a='1' c=\"2\">ä & b</b>").to_string();
        assert_eq!(text, "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;ä &amp; b&lt;/b&gt;");
    }

    #[test]
    fn a_script_cannot_be_left() {
        let json = script_json(&serde_json::json!({ "name": "</script><b>" }));
        assert_eq!(json, "{\"name\":\"\\u003c/script>\\u003cb>\"}");
    }
}
