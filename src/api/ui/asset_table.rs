//! Files of the page, which are part of the program: the two documents, and scripts and images below `/ui/`.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Where the style sheet is put into a document, so that the first paint needs no second request.
const STYLE_PLACEHOLDER: &str = "/*STYLE*/";

/// A file that is served below `/ui/`.
pub(super) struct Asset {
    /// Last segment of its address.
    pub name: &'static str,
    pub media_type: &'static str,
    pub content: &'static str,
}

const ASSETS: [Asset; 1] = [Asset::script("app.js", include_str!("assets/app.js"))];

static LOGIN: LazyLock<Document> = LazyLock::new(|| Document::new(include_str!("assets/login.html")));
static INDEX: LazyLock<Document> = LazyLock::new(|| Document::new(include_str!("assets/index.html")));

impl Asset {
    const fn script(name: &'static str, content: &'static str) -> Asset {
        Asset { name, media_type: "text/javascript; charset=utf-8", content }
    }

    /// Returns the file with this name.
    pub fn find(name: &str) -> Option<&'static Asset> {
        static TABLE: [Asset; ASSETS.len()] = ASSETS;
        TABLE.iter().find(|asset| asset.name == name)
    }

    /// Returns the value of `ETag`: a hash of the content.
    pub fn etag(&self) -> String {
        let hash = Sha256::digest(self.content);
        format!("\"{}\"", hex::encode(&hash[..12]))
    }
}

/// An HTML document with the style sheet in it.
pub(super) struct Document {
    /// The text as it is sent.
    pub html: String,
    /// The only style that the browser applies, as a source of the content security policy.
    pub style_source: String,
}

impl Document {
    /// Returns the page.
    pub fn index() -> &'static Document {
        &INDEX
    }

    /// Returns the login form.
    pub fn login() -> &'static Document {
        &LOGIN
    }

    fn new(template: &str) -> Document {
        let html = template.replace(STYLE_PLACEHOLDER, include_str!("assets/style.css"));
        let style = html.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).map_or("", |(s, _)| s);
        let style_source = format!("'sha256-{}'", STANDARD.encode(Sha256::digest(style)));
        Document { html, style_source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_no_inline_script_and_one_style() {
        for document in [Document::index(), Document::login()] {
            let html = document.html.to_ascii_lowercase();
            assert_eq!(html.matches("<style>").count(), 1);
            assert!(!html.contains(&STYLE_PLACEHOLDER.to_ascii_lowercase()));
            for inline in [" style=", " onclick=", " onload=", "javascript:", "<script>"] {
                assert!(!html.contains(inline), "{inline}");
            }
            assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=\"ui/").count());
        }
    }

    #[test]
    fn every_script_of_a_document_is_in_the_table() {
        for document in [Document::index(), Document::login()] {
            for rest in document.html.split(" src=\"ui/").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(Asset::find(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn style_source_is_the_hash_of_the_style_element() {
        let document = Document::new("<style>/*STYLE*/</style>");
        let expected = STANDARD.encode(Sha256::digest(include_str!("assets/style.css")));
        assert_eq!(document.style_source, format!("'sha256-{expected}'"));
    }
}
