//! Judges files by the tables: where a file stands, what it imports and what it names.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use crate::scan::{self, Scan};
use crate::{
    CLOCK, COMPUTING_MODULES, EXPORTED_MACROS, IMPURE_MODULES, IMPURE_PATHS, IMPURE_WORDS,
    PURE_PATHS, TOP_LEVEL,
};
use crate::{Imports, Pure, ROOMS, Room, VAGUE_NAMES};

pub(crate) fn find_room(name: &str) -> Option<usize> {
    ROOMS.iter().position(|room| room.name == name)
}

/// A file in its room.
struct File<'a> {
    path: &'a str,
    room: usize,
    /// Its module path from the crate's root: `["crate", "shard", "slab"]`.
    module: Vec<String>,
}

impl<'a> File<'a> {
    /// `path` starts at the repository's root; nothing if it is in no room.
    fn place(path: &'a str) -> Option<Self> {
        let inside = path.strip_prefix("src/")?;
        let mut names: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
        let room = find_room(names[0])?;
        let is_root = matches!(names[0], "main" | "lib");
        let is_module = names.len() > 1 || inside.len() > names[0].len();
        if !is_module || is_root && names.len() > 1 {
            return None;
        }
        names.pop_if(|name| *name == "mod" || is_root);
        let module = ["crate"]
            .iter()
            .chain(&names)
            .map(|&name| name.to_owned())
            .collect();
        Some(Self { path, room, module })
    }

    fn room(&self) -> &'static Room {
        &ROOMS[self.room]
    }

    fn is_pure(&self) -> bool {
        let is_named = |names: &[&str]| names.iter().any(|name| self.is_inside(name));
        match self.room().pure {
            Pure::Nothing => false,
            Pure::Only(names) => is_named(names),
            Pure::AllBut(names) => !is_named(names),
        }
    }

    /// Whether it is the module of this name in its room, or below that; the room's own file is `mod`.
    fn is_inside(&self, name: &str) -> bool {
        let inside = self.module.get(2..).unwrap_or_default();
        if inside.is_empty() {
            return name == "mod";
        }
        let way: Vec<&str> = name.split("::").collect();
        starts_with(inside, &way)
    }

    fn may_import(&self, target: usize) -> bool {
        match self.room().imports {
            _ if target == self.room => true,
            Imports::AllBelow => target > self.room,
            Imports::Only(names) => names.contains(&ROOMS[target].name),
        }
    }

    /// The room that an absolute path leads to; what is no room is an item of a crate's root.
    fn target(&self, path: &[String]) -> Option<usize> {
        let root = match (path[0].as_str(), self.room().name) {
            ("crate", "main" | "cli") => "main",
            ("crate" | "corelane", _) => "lib",
            _ => return None,
        };
        let name = path.get(1).map_or("", String::as_str);
        let exported = EXPORTED_MACROS.iter().find(|(macro_, _)| *macro_ == name);
        find_room(exported.map_or(name, |(_, room)| room)).or_else(|| find_room(root))
    }
}

/// Makes the paths of a file absolute.
struct Resolver<'a> {
    file: &'a File<'a>,
    scan: &'a Scan,
    /// What the imports of each scope call by a name of their own.
    bound: HashMap<(usize, &'a str), &'a [String]>,
}

impl<'a> Resolver<'a> {
    fn new(file: &'a File<'a>, scan: &'a Scan) -> Self {
        let binding = |path: &'a scan::Path| {
            Some((
                (path.scope, path.binds.as_deref()?),
                path.segments.as_slice(),
            ))
        };
        let bound = scan.paths.iter().filter_map(binding).collect();
        Self { file, scan, bound }
    }

    /// A path from `crate`, `corelane` or `std`; nothing if `super` climbs out of the room.
    fn absolute(&self, path: &scan::Path) -> Option<Vec<String>> {
        let mut segments = path.segments.clone();
        // Imports may lead through imports; a circle of them would not compile, so few are enough.
        for _ in 0..8 {
            match self.bound.get(&(path.scope, segments[0].as_str())) {
                Some(target) if target[0] != segments[0] => {
                    segments.splice(..1, target.iter().cloned());
                }
                _ => break,
            }
        }
        match segments[0].as_str() {
            "crate" | "corelane" | "std" => return Some(segments),
            "core" | "alloc" => {
                "std".clone_into(&mut segments[0]);
                return Some(segments);
            }
            _ => {}
        }
        let own_room = self.file.module.len().min(2);
        let mut module = self.file.module.clone();
        module.extend_from_slice(&self.scan.scopes[path.scope].modules);
        let mut rest = segments.as_slice();
        loop {
            match rest.first().map(String::as_str) {
                Some("self") => {}
                Some("super") if module.len() > own_room => drop(module.pop()),
                Some("super") => return None,
                _ => break,
            }
            rest = &rest[1..];
        }
        module.extend_from_slice(rest);
        Some(module)
    }
}

/// Everything in which one source file breaks the layers, in the order of its lines.
pub(crate) fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = misplacements(path);
    let Some(file) = File::place(path).filter(|_| is_rust(path)) else {
        return found;
    };
    let scan = Scan::of(source);
    let mut in_lines = BTreeSet::new();
    import_violations(&file, &scan, &mut in_lines);
    word_violations(&file, &scan, &mut in_lines);
    found.extend(
        in_lines
            .into_iter()
            .map(|(line, what)| format!("{path}:{line}: {what}")),
    );
    found
}

fn is_rust(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "rs")
}

/// What is wrong with the place of a file, whatever is in it.
fn misplacements(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    if File::place(path).is_none() {
        found.push(format!(
            "{path}: is in no known room; place it in ROOMS first"
        ));
    }
    let names = path.split('/').map(|name| name.trim_end_matches(".rs"));
    for name in names.filter(|name| VAGUE_NAMES.contains(name)) {
        found.push(format!(
            "{path}: {name} says nothing, name the module for what it does"
        ));
    }
    found
}

fn import_violations(file: &File, scan: &Scan, found: &mut BTreeSet<(usize, String)>) {
    let resolver = Resolver::new(file, scan);
    let from = file.room().name;
    for path in &scan.paths {
        let Some(absolute) = resolver.absolute(path) else {
            found.insert((path.line, format!("super climbs out of {from}")));
            continue;
        };
        if is_computing(&absolute) {
            continue;
        }
        if let Some(target) = file
            .target(&absolute)
            .filter(|&target| !file.may_import(target))
        {
            let to = ROOMS[target].name;
            found.insert((path.line, format!("{from} may not import {to}")));
        }
        if !file.is_pure() {
            continue;
        }
        let module = impure_module(&absolute).or_else(|| impure_sibling(file, path));
        if let Some(module) = module {
            found.insert((path.line, format!("pure file imports {module}")));
        }
        if !scan.scopes[path.scope].test
            && let Some(name) = impure_path(file.path, &absolute)
        {
            found.insert((path.line, format!("pure file names {name}")));
        }
    }
}

/// Only by its whole path: what is above one of them is more than that.
fn is_computing(absolute: &[String]) -> bool {
    let is_below = |module: &&&[&str]| starts_with(&absolute[1..], module);
    absolute[0] == "crate" && COMPUTING_MODULES.iter().any(|module| is_below(&module))
}

fn impure_module(absolute: &[String]) -> Option<String> {
    let mut modules = IMPURE_MODULES.iter();
    let module = modules.find(|module| starts_with(&absolute[1..], module))?;
    (absolute[0] == "crate").then(|| module.join("::"))
}

/// A bare `run::x` inside the shard, as its `mod.rs` or a `use super::*` would allow.
fn impure_sibling(file: &File, path: &scan::Path) -> Option<String> {
    let sibling = [file.room().name, path.segments[0].as_str()];
    let is_impure = path.segments.len() > 1 && IMPURE_MODULES.contains(&sibling.as_slice());
    is_impure.then(|| sibling.join("::"))
}

fn impure_path(file: &str, absolute: &[String]) -> Option<String> {
    if absolute.windows(CLOCK.len()).any(|names| names == CLOCK) {
        return Some(CLOCK.join("::"));
    }
    if PURE_PATHS.contains(&absolute[..absolute.len().min(3)].join("::").as_str()) {
        return None;
    }
    for (name, allowed_in) in IMPURE_PATHS {
        let forbidden: Vec<&str> = name.split("::").collect();
        let is_named = starts_with(absolute, &forbidden);
        // A glob brings in whatever is below it.
        let is_inside = absolute.split_last().is_some_and(|(last, above)| {
            last == "*" && above.iter().zip(&forbidden).all(|(a, b)| a == b)
        });
        let is_allowed = allowed_in.is_some_and(|place| Path::new(file).starts_with(place));
        if (is_named || is_inside) && !is_allowed {
            return Some(if is_named {
                name.to_owned()
            } else {
                absolute.join("::")
            });
        }
    }
    None
}

fn starts_with(path: &[String], start: &[&str]) -> bool {
    path.len() >= start.len() && path.iter().zip(start).all(|(a, b)| a == b)
}

fn word_violations(file: &File, scan: &Scan, found: &mut BTreeSet<(usize, String)>) {
    let is_sys = file.room().name == "sys";
    for (at, token) in scan.tokens.iter().enumerate() {
        let word = token.text.as_str();
        let what = if word == "unsafe" && !is_sys {
            "unsafe stands outside src/sys".to_owned()
        } else if word == "unsafe_code" && !is_sys && !is_forbidden_lint(scan, at) {
            "unsafe_code is allowed outside src/sys".to_owned()
        } else if word == "mod" && VAGUE_NAMES.contains(&scan.text(at + 1)) {
            format!(
                "{} says nothing, name the module for what it does",
                scan.text(at + 1)
            )
        } else if IMPURE_WORDS.contains(&word) && file.is_pure() && !scan.scopes[token.scope].test {
            format!("pure file names {word}")
        } else {
            continue;
        };
        found.insert((token.line, what));
    }
}

/// Whether the lint at `at` stands in `deny(...)` or `forbid(...)`.
fn is_forbidden_lint(scan: &Scan, at: usize) -> bool {
    let open = (1..at).rev().find(|&at| scan.text(at) == "(");
    open.is_some_and(|open| matches!(scan.text(open - 1), "deny" | "forbid"))
}

/// The names at the top of the repository that do not belong there.
pub(crate) fn strays<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let stray = |name: &&str| !name.starts_with('.') && !TOP_LEVEL.contains(name);
    let told = |name| format!("{name}: does not belong at the top of the repository");
    names.into_iter().filter(stray).map(told).collect()
}

/// The files below `folder`, as paths from the repository's root.
pub(crate) fn files(root: &Path, folder: &Path, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(root, &path, found)?;
        } else {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            found.push(inside.to_string_lossy().into_owned());
        }
    }
    Ok(())
}
