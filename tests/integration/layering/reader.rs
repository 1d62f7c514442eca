//! Reader of source files: finds the paths of this crate that a file names.

/// The paths, from the crate's root, with the item's name at their end.
pub fn imports(module: &[String], source: &str) -> Vec<Vec<String>> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let begins = at == 0 || tokens[at - 1] != "::";
        if begins && matches!(token.as_str(), "crate" | "super" | "self" | "marqueue") {
            tree(&tokens, at, Vec::new(), &mut found);
        }
    }
    // One word alone is `pub(crate)`, or the `self` of a method.
    found.into_iter().filter(|path| path.len() > 1).filter_map(|path| from_the_root(module, &path)).collect()
}

/// Reads a path, or a tree of them, at `at`; gives where it ends.
fn tree(tokens: &[String], mut at: usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let end = tree(tokens, at, path.clone(), found);
                    // Something that no `use` has in it: leave it, and go on behind it.
                    at = if end == at { at + 1 } else { end };
                    // `as` and a name, and the comma.
                    while tokens.get(at).is_some_and(|token| token != "}" && token != ",") {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            Some(word) if is_word(word) || word == "*" => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => {
                found.push(path);
                return at;
            }
        }
        if tokens.get(at).is_none_or(|token| token != "::") {
            found.push(path);
            return at;
        }
        at += 1;
    }
}

fn from_the_root(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    while let [first, others @ ..] = rest {
        match first.as_str() {
            "crate" | "marqueue" => base.clear(),
            "super" => _ = base.pop(),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    base.extend(rest.iter().filter(|word| *word != "self").cloned());
    // `super::x` of a file on the top, or `use super::*` there: the root itself has nothing to import.
    (!base.is_empty()).then_some(base)
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words and signs; no comments and no texts.
fn tokens(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = text(rest) {
            length
        } else if is_word(rest) {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if is_word(token) && text(rest).is_none() || token == "::" || (length == 1 && !first.is_whitespace()) {
            found.push(token.to_owned());
        }
        rest = after;
    }
    found
}

/// The length of the text or character that `rest` begins with, if it does.
fn text(rest: &str) -> Option<usize> {
    let plain = rest.strip_prefix('b').unwrap_or(rest);
    let skipped = rest.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.bytes().take_while(|&byte| byte == b'#').count();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(rest.len() - body.len() + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    let quote = plain.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut escaped = false;
    for (at, c) in plain.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(skipped + at + 1),
            // A lifetime, and no character: `'a` has no quote behind its first letter.
            _ if quote == '\'' && !plain[1..].starts_with('\\') && at > 1 => return None,
            _ => {}
        }
    }
    None
}
