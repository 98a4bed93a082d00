//! `deploy/README.md`, the walk through it all.

use crate::{path, text};

/// Everything of the repository that it names is there, and everything in `deploy/` is named.
#[test]
fn the_walk_and_the_folder_fit_together() {
    let readme = text("deploy/README.md");
    let named: Vec<&str> = readme
        .split(|c: char| c.is_whitespace() || "`()[],;:\"'|".contains(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with("deploy/") || word.starts_with("config/"))
        .collect();
    for file in &named {
        assert!(path(file).exists(), "{file}");
    }
    for entry in std::fs::read_dir(path("deploy")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let named = name == "README.md" || named.contains(&&*format!("deploy/{name}"));
        assert!(named, "deploy/README.md does not name {name}");
    }
}

/// The commands of corelane in its blocks for the shell are commands.
#[test]
fn commands_are_commands() {
    let readme = text("deploy/README.md");
    let blocks = readme.split("```").skip(1).step_by(2);
    let mut seen = 0;
    for line in blocks
        .filter_map(|block| block.strip_prefix("sh\n"))
        .flat_map(str::lines)
    {
        let mut words = line.split(' ');
        if words
            .next()
            .is_some_and(|program| program.contains("corelane"))
        {
            crate::program::run(&[words.next().unwrap(), "--help"]).succeeded();
            seen += 1;
        }
    }
    assert!(seen >= 5);
}

/// The page that `systemctl help corelane` opens is installed.
#[test]
fn the_documentation_of_the_service_is_installed() {
    let service = text("deploy/corelane.service");
    let page = service
        .lines()
        .find_map(|line| line.strip_prefix("Documentation=file:"))
        .unwrap();
    let installed = format!("install -D -m 644 deploy/README.md {page}\n");
    assert!(text("deploy/README.md").contains(&installed), "{page}");
}
