//! What may have been meant by a key that does not exist.

use super::key::KeyPath;
use super::rules;

/// The rest of a sentence on the unknown key at `path`: the key that was
/// probably meant, or else those that there are.
pub(super) fn hint(path: &KeyPath) -> String {
    let meant = match path.names.as_slice() {
        [name] => nearest(name, rules::sections()).map(str::to_owned),
        [section, name] => {
            nearest(name, rules::keys_of(section)).map(|key| format!("{section}.{key}"))
        }
        _ => None,
    };
    let meant = meant
        .or_else(|| nearest(&path.dotted(), rules::keys()).map(str::to_owned))
        .or_else(|| in_another_section(path));
    if let Some(key) = meant {
        return format!("did you mean {key}?");
    }
    let section = path.names.first().map_or("", String::as_str);
    let keys = list(rules::keys_of(section));
    if keys.is_empty() {
        format!("the sections are {}", list(rules::sections()))
    } else {
        format!("the keys of {section} are {keys}")
    }
}

/// The key of the same name elsewhere.
fn in_another_section(path: &KeyPath) -> Option<String> {
    let name = path.names.last()?;
    let mut sections = rules::sections();
    let section = sections.find(|section| rules::keys_of(section).any(|key| key == name))?;
    Some(format!("{section}.{name}"))
}

fn list(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The candidate closest to `word`, if it is close enough to be a slip of the
/// keyboard: at most a third of its letters wrong, or one.
fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let slips_max = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out, replaced or swapped with their
/// neighbour to make one word of the other ("optimal string alignment").
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    // steps[i][j]: from the first i letters of a to the first j of b.
    let mut steps = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            steps[i][j] = if i == 0 || j == 0 {
                i.max(j)
            } else {
                let replaced = steps[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let one_sided = steps[i - 1][j].min(steps[i][j - 1]) + 1;
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped {
                    steps[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                replaced.min(one_sided).min(swap)
            };
        }
    }
    steps[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("pin", "pin", 0),
            ("pni", "pin", 1),
            ("cpu", "cpus", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_is_near() {
        let nearest = |word| nearest(word, ["count", "cpus", "pin"].into_iter());
        assert_eq!(nearest("coutn"), Some("count"));
        assert_eq!(nearest("cpu"), Some("cpus"));
        assert_eq!(nearest("threads"), None);
        assert_eq!(nearest(""), None);
    }
}
