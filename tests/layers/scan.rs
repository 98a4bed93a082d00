//! Reads Rust source just well enough to say which paths it names and where.
//!
//! Comments, strings, characters and lifetimes never become tokens, so nothing that is only talked
//! about counts as code. What a macro builds out of pieces is not seen.

/// A piece of code: a word, a number, `::` or one other character.
pub(crate) struct Token {
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Index into [`Scan::scopes`].
    pub(crate) scope: usize,
}

/// The file itself or an inline `mod name { ... }` in it.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    /// Names of the inline modules around it, outermost first.
    pub(crate) modules: Vec<String>,
    /// Whether one of them is `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// A path of two or more segments in an expression or type, or one leaf of a `use`.
pub(crate) struct Path {
    /// As written, groups spelled out; a glob ends in `*`.
    pub(crate) segments: Vec<String>,
    /// The name that a `use` gives to it in its scope.
    pub(crate) binds: Option<String>,
    pub(crate) line: usize,
    pub(crate) scope: usize,
}

/// Everything the rules ask about one file.
pub(crate) struct Scan {
    pub(crate) tokens: Vec<Token>,
    /// The first one is the file itself.
    pub(crate) scopes: Vec<Scope>,
    pub(crate) paths: Vec<Path>,
}

impl Scan {
    pub(crate) fn of(source: &str) -> Self {
        let mut scan = Self {
            tokens: tokens(source),
            scopes: vec![Scope::default()],
            paths: Vec::new(),
        };
        scan.enter_scopes();
        scan.find_paths();
        scan
    }

    /// The token at `at`, or nothing past the end.
    pub(crate) fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn enter_scopes(&mut self) {
        let (mut scope, mut cfg_test) = (0, false);
        // One entry for each open brace: the scope to go back to behind it.
        let mut outer = Vec::new();
        for at in 0..self.tokens.len() {
            self.tokens[at].scope = scope;
            match self.text(at) {
                "#" if self.is_cfg_test(at) => cfg_test = true,
                "{" => {
                    outer.push(scope);
                    if at >= 2 && self.text(at - 2) == "mod" {
                        let mut inner = self.scopes[scope].clone();
                        inner.modules.push(self.text(at - 1).to_owned());
                        inner.test |= cfg_test;
                        scope = self.scopes.len();
                        self.scopes.push(inner);
                    }
                    cfg_test = false;
                }
                "}" => {
                    scope = outer.pop().unwrap_or_default();
                    cfg_test = false;
                }
                ";" => cfg_test = false,
                _ => {}
            }
        }
    }

    fn is_cfg_test(&self, at: usize) -> bool {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        (at..)
            .zip(attribute)
            .all(|(at, text)| self.text(at) == text)
    }

    fn find_paths(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            // `impl Trait + use<'a>` is no import.
            if self.text(at) == "use" && self.text(at + 1) != "<" {
                at = self.use_tree(at + 1, &[]);
            } else if self.starts_path(at) {
                at = self.inline_path(at);
            } else {
                at += 1;
            }
        }
    }

    fn starts_path(&self, at: usize) -> bool {
        let is_first = at == 0 || self.text(at - 1) != "::" || is_crate(self.text(at));
        is_first && is_word(self.text(at)) && self.text(at + 1) == "::"
    }

    /// Takes the path that starts at `start`; returns where the code goes on.
    fn inline_path(&mut self, start: usize) -> usize {
        let mut segments = vec![self.text(start).to_owned()];
        let mut at = start + 1;
        while self.text(at) == "::" && is_word(self.text(at + 1)) && !is_crate(self.text(at + 1)) {
            segments.push(self.text(at + 1).to_owned());
            at += 2;
        }
        if segments.len() > 1 {
            self.paths.push(Path {
                segments,
                binds: None,
                line: self.tokens[start].line,
                scope: self.tokens[start].scope,
            });
        }
        at
    }

    /// Takes one tree of a `use` below `prefix`; returns where the code goes on.
    fn use_tree(&mut self, mut at: usize, prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let mut binds = None;
        let mut last = None;
        loop {
            match self.text(at) {
                "::" => at += 1,
                "{" => return self.use_group(at + 1, &segments),
                "as" => {
                    binds = Some(self.text(at + 1).to_owned());
                    at += 2;
                }
                text if text == "*" || is_word(text) => {
                    segments.push(text.to_owned());
                    last = Some(at);
                    at += 1;
                }
                _ => break,
            }
        }
        if let Some(last) = last {
            if segments.len() > 1 {
                segments.pop_if(|segment| segment == "self");
            }
            self.paths.push(Path {
                binds: binds.or_else(|| segments.last().cloned()),
                segments,
                line: self.tokens[last].line,
                scope: self.tokens[last].scope,
            });
        }
        at
    }

    /// Takes the trees up to the closing brace; returns where the code goes on.
    fn use_group(&mut self, mut at: usize, prefix: &[String]) -> usize {
        loop {
            at = self.use_tree(at, prefix);
            match self.text(at) {
                "," => at += 1,
                "}" => return at + 1,
                _ => return at,
            }
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// A crate that only ever stands at the start of a path, as in `return ::std::mem::take(x)`.
fn is_crate(word: &str) -> bool {
    matches!(word, "std" | "core" | "alloc" | "corelane")
}

fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut rest = chars.as_slice();
    let mut line = 1;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (len, is_code) = lexeme(rest);
        // An unclosed string or comment ends with the file.
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        if is_code {
            found.push(Token {
                text: piece.iter().collect(),
                line,
                scope: 0,
            });
        }
        line += piece.iter().filter(|&&c| c == '\n').count();
        rest = behind;
    }
    found
}

/// How many characters the first lexeme has, and whether it is code.
fn lexeme(rest: &[char]) -> (usize, bool) {
    match rest {
        ['/', '/', ..] => (run(rest, |c| c != '\n'), false),
        ['/', '*', ..] => (block_comment(rest), false),
        ['"', ..] | ['\'', '\\', ..] => (quoted(rest), false),
        ['\'', _, '\'', ..] => (3, false),
        ['\'', ..] => (1 + run(&rest[1..], is_word_char), false),
        ['b' | 'c', '"', ..] | ['b', '\'', ..] => (1 + lexeme(&rest[1..]).0, false),
        ['r', tail @ ..] | ['b' | 'c', 'r', tail @ ..] if raw_string(tail).is_some() => {
            let prefix = rest.len() - tail.len();
            (prefix + raw_string(tail).unwrap_or_default(), false)
        }
        ['r', '#', tail @ ..] if tail.first().copied().is_some_and(is_word_char) => {
            (2 + run(tail, is_word_char), true)
        }
        [':', ':', ..] => (2, true),
        [first, ..] if is_word_char(*first) => (run(rest, is_word_char), true),
        [first, ..] => (1, !first.is_whitespace()),
        [] => (0, false),
    }
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many of the first characters all satisfy `wanted`.
fn run(rest: &[char], wanted: impl Fn(char) -> bool) -> usize {
    rest.iter().take_while(|&&c| wanted(c)).count()
}

/// Length of a `/* */` comment, in which others may nest.
fn block_comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a literal that ends with the quote it starts with.
fn quoted(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != rest[0] {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Length of `#"..."#` with any number of hashes, if that is what comes.
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = run(rest, |c| c == '#');
    let body = rest[hashes..].strip_prefix(&['"'])?;
    let is_end = |at: &usize| body[*at] == '"' && run(&body[at + 1..], |c| c == '#') >= hashes;
    let len = (0..body.len()).find(is_end).unwrap_or(body.len());
    Some(hashes + 1 + len + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::Scan;

    fn words(source: &str) -> Vec<String> {
        let tokens = Scan::of(source).tokens;
        tokens.into_iter().map(|token| token.text).collect()
    }

    fn paths(source: &str) -> Vec<String> {
        let paths = Scan::of(source).paths;
        let shown = |path: super::Path| format!("{} {}", path.line, path.segments.join("::"));
        paths.into_iter().map(shown).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(
            words("a // b\nc /* d /* e */ f */ g //! h"),
            ["a", "c", "g"]
        );
        assert_eq!(words(r#"a "b \" c" d b"e" f c"g" h"#), ["a", "d", "f", "h"]);
        assert_eq!(
            words("a r\"b\\\" c r#\"d \" e\"# f br##\"g\"# h\"## i"),
            ["a", "c", "f", "i"]
        );
        assert_eq!(
            words(r"a '\'' b '\\' c '{' d b'x' e"),
            ["a", "b", "c", "d", "e"]
        );
        assert_eq!(words("<'a>'static r#type"), ["<", ">", "r#type"]);
        assert_eq!(words("a \"never closed"), ["a"]);
        assert_eq!(words("a /* never closed"), ["a"]);
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        assert_eq!(
            paths("/* 1\n2 */ \"3\n\" a::b;\n\nc::d"),
            ["3 a::b", "5 c::d"]
        );
    }

    #[test]
    fn groups_and_inline_paths_are_spelled_out() {
        let source = "use a::{self, b::{c, d as e}, f::*,};\nuse {g, ::std::h};";
        let leaves = [
            "1 a",
            "1 a::b::c",
            "1 a::b::d",
            "1 a::f::*",
            "2 g",
            "2 std::h",
        ];
        assert_eq!(paths(source), leaves);
        let source = "fn x(y: &a::B) { <c::D as E>::f(g::<h::I>()); return ::std::j(); }";
        assert_eq!(paths(source), ["1 a::B", "1 c::D", "1 h::I", "1 std::j"]);
        assert!(paths("fn x<'a>() -> impl Sized + use<'a> {}").is_empty());
    }

    #[test]
    fn inline_modules_are_scopes() {
        let scan = Scan::of("a::b; #[cfg(test)] mod t { mod u { c::d; } } mod v { e::f; }");
        let scopes = scan.paths.iter().map(|path| &scan.scopes[path.scope]);
        let shown: Vec<_> = scopes
            .map(|scope| (scope.modules.join("::"), scope.test))
            .collect();
        let expected = [("", false), ("t::u", true), ("v", false)];
        assert_eq!(
            shown,
            expected.map(|(modules, test)| (modules.to_owned(), test))
        );
        let scan = Scan::of("#[cfg(test)] use a::b; mod t { c::d; }");
        assert!(
            !scan.scopes[scan.paths[1].scope].test,
            "the attribute belongs to the import"
        );
    }
}
