//! A document that several people edit: a tree of sections, each an entity of a store. It is edited as a whole
//! and versioned, edited by two at a time, of whom one is refused, forked, merged, and looked at as it was.
//!
//! ```text
//! cargo run --release --example versions --features store
//! cargo run --release --example versions --features store -- --sections 1000 --dot | dot -Tsvg > tree.svg
//! ```
//! Everything that is said is asserted before. (A wrong argument is exit code 2.)
#![forbid(unsafe_code)]

use clap::{Parser, value_parser};
use snapcell::{
    Children, Edge, EntityId, Forest, Merge, Merged, Retain, Tree, Version, VersionError, Versioned,
};
use std::error::Error;
use std::io::{self, Write};

/// Edits a document of many sections, alone and with others, and shows its history.
#[derive(Parser)]
#[command(name = "versions", version)]
struct Arguments {
    /// How many sections the document has
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = value_parser!(u32).range(1..=100_000))]
    sections: u32,

    /// How often one of them is edited
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=100_000))]
    edits: u32,

    /// Which sections are edited: always the same ones for a seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print nothing but the tree, as a graph for Graphviz
    #[arg(long)]
    dot: bool,
}

/// A part of the document. Several kinds in one store: this is all it takes.
#[derive(Clone, PartialEq)]
enum Part {
    /// Has others below it.
    Chapter { title: String, parts: Vec<EntityId> },
    /// Has text.
    Section { title: String, text: String },
}

impl Part {
    fn title(&self) -> &str {
        match self {
            Part::Chapter { title, .. } | Part::Section { title, .. } => title,
        }
    }

    /// The same section with more text; a chapter with another title.
    fn edited(&self, by: &str) -> Self {
        match self {
            Part::Chapter { title, parts } => Part::Chapter {
                title: format!("{title}, by {by}"),
                parts: parts.clone(),
            },
            Part::Section { title, text } => Part::Section {
                title: title.clone(),
                text: format!("{text} {by} was here."),
            },
        }
    }
}

impl Children for Part {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        if let Part::Chapter { parts, .. } = self {
            for (index, id) in parts.iter().enumerate() {
                each(Edge::list("parts", index), *id);
            }
        }
    }
}

/// Sections in chapters of at most five, those in a document.
fn document(forest: &Forest<Part>, sections: u32) -> EntityId {
    let section = |number| Part::Section {
        title: format!("Section {number}"),
        text: "Once upon a time.".to_owned(),
    };
    let mut parts: Vec<_> = (1..=sections).map(|n| forest.insert(section(n))).collect();
    let mut level = 0;
    loop {
        level += 1;
        let chapter = |(number, parts): (usize, &[EntityId])| {
            forest.insert(Part::Chapter {
                title: format!("Chapter {level}.{}", number + 1),
                parts: parts.to_vec(),
            })
        };
        parts = parts.chunks(5).enumerate().map(chapter).collect();
        if let [root] = parts[..] {
            return root;
        }
    }
}

/// One section of the tree, edited, and the tree versioned.
fn edit(
    forest: &Forest<Part>,
    tree: &Tree<Part>,
    section: EntityId,
    by: &str,
) -> Result<Versioned<Part>, VersionError> {
    let value = tree.get(&section).expect("it is in the tree").edited(by);
    let edited = tree.with(section, value).expect("it names the same parts");
    forest.version(&edited)
}

/// The one text with what was added to the other.
fn merge(texts: Merge<'_, Part>) -> Option<Part> {
    let (
        Part::Section { text: base, .. },
        Part::Section { title, text },
        Part::Section { text: other, .. },
    ) = (texts.base, texts.mine, texts.theirs)
    else {
        return None;
    };
    let added = other.strip_prefix(base.as_str())?;
    let (title, text) = (title.clone(), format!("{text}{added}"));
    Some(Part::Section { title, text })
}

fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut builder = Forest::builder().retain(Retain::All);
    let sections = builder.index(|part: &Part| matches!(part, Part::Section { .. }).then_some(()));
    let forest = builder.forest();
    let root = document(&forest, arguments.sections);
    forest.promote(&root)?;
    let first = forest.tree(&root)?;
    let mut tree = first.clone();
    writeln!(
        out,
        "The document: {} parts, {} levels.",
        tree.len(),
        tree.depth()
    )?;

    writeln!(
        out,
        "\n1. Edits: a section, and all above it, get a new version together"
    )?;
    let all = forest.find(&sections, &()).to_vec();
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    for number in 1..=arguments.edits {
        let section = all[random.usize(..all.len())];
        let before = tree.clone();
        let committed = edit(&forest, &tree, section, "Ann")?;
        tree = committed.into_tree().expect("something has changed");
        let diff = tree.diff(&before);
        assert_eq!(diff.changed(), [section]);
        assert_eq!(diff.modified().len(), tree.path(&section).len());
        assert_eq!(
            tree.stamp(&root).map(|stamp| stamp.version()),
            Some(u64::from(number))
        );
        if number <= 4 {
            let title = tree.get(&section).expect("it is there").title();
            let (new, compared) = (diff.modified().len(), diff.compared());
            writeln!(
                out,
                "  {title}: {new} of {} parts are new, {compared} compared",
                tree.len()
            )?;
        }
    }

    writeln!(out, "\n2. Two at a time: one commits, the other is told")?;
    let section = all[0];
    let mine = edit(&forest, &tree, section, "Ann")?;
    let refused = edit(&forest, &tree, section, "Bob").expect_err("Ann was faster");
    assert!(refused.is_conflict());
    writeln!(out, "  Ann: committed. Bob: {refused}.")?;
    tree = mine.into_tree().expect("something has changed");

    writeln!(out, "\n3. A fork goes its own way, and comes back")?;
    let fork = forest.fork(&section)?;
    forest.update(&fork, |part| part.edited("Carl"))?;
    forest.update(&section, |part| part.edited("Bob"))?;
    let merged = forest.merge(&section, &fork, merge)?;
    assert!(matches!(merged, Merged::Joined(_)));
    let text = forest.read(&section, |part| match part {
        Part::Section { text, .. } => text.clone(),
        Part::Chapter { .. } => String::new(),
    })?;
    assert!(text.ends_with("Bob was here. Carl was here."));
    writeln!(out, "  {text}")?;
    let line = forest.lineage_report(forest.lineage_of(&section)?);
    assert_eq!(line.entries.len(), 2);
    writeln!(out, "{line}")?;

    writeln!(out, "\n4. What it was")?;
    for version in forest.history(&section)? {
        let version: Version<Part> = version;
        let Part::Section { text, .. } = &*version else {
            unreachable!("it is a section")
        };
        writeln!(out, "  {}: {text}", version.stamp())?;
    }
    let born = first.stamp(&section).expect("it is stored").time();
    let then = forest.as_of(&section, born)?;
    assert!(
        Some(&*then) == first.get(&section),
        "the first tree is as it was"
    );

    let latest = forest.tree(&root)?;
    writeln!(
        out,
        "\n5. The tree that the last edit returned, against the one that is there now"
    )?;
    let diff = latest.diff(&tree);
    assert_eq!(
        diff.changed(),
        [section],
        "by an update and a merge of that section alone"
    );
    writeln!(out, "  {} changed", diff.changed().len())?;
    if latest.len() <= 20 {
        writeln!(
            out,
            "\n{latest}\n\n{}\n{}",
            latest.dot(|part| part.title().to_owned()),
            line.dot()
        )?;
    }
    forest.validate()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.dot {
        let forest = Forest::new();
        let root = document(&forest, arguments.sections);
        forest.promote(&root)?;
        let tree = forest.tree(&root)?;
        let dot = tree.dot(|part: &Part| part.title().to_owned());
        return Ok(write!(io::stdout().lock(), "{dot}")?);
    }
    run(&arguments, &mut io::stdout().lock())
}
