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

const ASSETS: [Asset; 17] = [
    Asset::script("actions.js", include_str!("assets/actions.js")),
    Asset::script("add.js", include_str!("assets/add.js")),
    Asset::script("api.js", include_str!("assets/api.js")),
    Asset::script("app.js", include_str!("assets/app.js")),
    Asset::script("charts.js", include_str!("assets/charts.js")),
    Asset::script("dialog.js", include_str!("assets/dialog.js")),
    Asset::script("dom.js", include_str!("assets/dom.js")),
    Asset::script("drops.js", include_str!("assets/drops.js")),
    Asset::script("format.js", include_str!("assets/format.js")),
    Asset::script("job.js", include_str!("assets/job.js")),
    Asset::script("jobs.js", include_str!("assets/jobs.js")),
    Asset::script("live.js", include_str!("assets/live.js")),
    Asset::script("overview.js", include_str!("assets/overview.js")),
    Asset::script("route.js", include_str!("assets/route.js")),
    Asset::script("theme.js", include_str!("assets/theme.js")),
    Asset::script("widgets.js", include_str!("assets/widgets.js")),
    Asset { name: "icon.svg", media_type: "image/svg+xml", content: include_str!("assets/icon.svg") },
];

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

    /// Returns what follows each `mark`, up to the next double quote.
    fn quoted_after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(mark).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_of_a_document_is_in_the_table() {
        for document in [Document::index(), Document::login()] {
            for mark in [" src=\"ui/", " href=\"ui/"] {
                for name in quoted_after(&document.html, mark) {
                    assert!(Asset::find(name).is_some(), "{name}");
                }
            }
        }
    }

    #[test]
    fn every_import_of_a_script_is_in_the_table() {
        for asset in &ASSETS {
            for name in [" from \"./", "import(\"./"].iter().flat_map(|mark| quoted_after(asset.content, mark)) {
                assert!(Asset::find(name).is_some(), "{} imports {name}", asset.name);
            }
        }
    }

    #[test]
    fn first_load_is_below_100_kb() {
        let scripts = quoted_after(&Document::index().html, " href=\"ui/").chain(["app.js", "theme.js"]);
        let bytes: usize = scripts.map(|name| Asset::find(name).unwrap().content.len()).sum();
        let all = bytes + Document::index().html.len();
        assert!((20_000..100_000).contains(&all), "{all} bytes");
    }

    #[test]
    fn modules_that_are_loaded_at_once_are_preloaded() {
        let html = &Document::index().html;
        let preloaded = quoted_after(html, "modulepreload\" href=\"ui/").chain(["app.js"]);
        for name in preloaded.flat_map(|name| quoted_after(Asset::find(name).unwrap().content, " from \"./")) {
            assert!(html.contains(&format!("\"ui/{name}\"")), "{name}");
        }
    }

    #[test]
    fn no_script_parses_text_as_markup_or_code() {
        for asset in &ASSETS {
            for way in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"]
            {
                assert!(!asset.content.contains(way), "{}: {way}", asset.name);
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
