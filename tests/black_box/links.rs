//! Links of the documentation lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = ["README.md", "CHANGELOG.md", "SECURITY.md"].map(|name| root.join(name));
    let below = ["docs", "docs/reference"].map(|dir| fs::read_dir(root.join(dir)).unwrap());
    let below = below.into_iter().flatten().map(|entry| entry.unwrap().path());
    let page = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
    top.into_iter().chain(below).filter(page).collect()
}

/// Targets in the same repository, without what follows `#`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inside = ends.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside.map(|target| target.split('#').next().unwrap())
}

#[test]
fn every_link_of_the_documentation_leads_to_a_file() {
    let (mut dead, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for target in targets(&text) {
            seen += 1;
            if !page.parent().unwrap().join(target).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(seen > 50, "{seen} links: they are not found any more");
    assert!(dead.is_empty(), "{dead:#?}");
}
