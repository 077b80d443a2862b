//! What operations do to a tree, in commits of the forest's own.

use crate::workload::Token;
use snapcell::{Attribute, Attributes, Children, Edge, EntityId, Forest, Tree, VersionError};
use std::error::Error;
use std::fmt;

pub(super) const SECTIONS: usize = 3;
pub(super) const LEAVES: usize = 2;
pub(super) const ATTRIBUTE: &str = "amount";

/// A node.
#[derive(Clone, PartialEq)]
pub(super) struct Doc {
    pub(super) amount: u64,
    /// How often it was changed. Its version also counts when it got a new one for the sake of another node.
    pub(super) edits: u64,
    pub(super) children: Vec<EntityId>,
    pub(super) token: Token,
}

impl Doc {
    pub(super) fn new(children: Vec<EntityId>) -> Self {
        Doc {
            amount: 0,
            edits: 0,
            children,
            token: Token::new(),
        }
    }

    pub(super) fn with_amount(&self, amount: u64) -> Self {
        Doc {
            amount,
            edits: self.edits + 1,
            ..self.clone()
        }
    }

    fn with_children(&self, children: Vec<EntityId>) -> Self {
        Doc {
            edits: self.edits + 1,
            children,
            ..self.clone()
        }
    }
}

impl Children for Doc {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        for (index, id) in self.children.iter().enumerate() {
            each(Edge::list("children", index), *id);
        }
    }
}

impl Attributes for Doc {
    type Value = u64;

    fn attribute(&self, name: &str) -> Option<Attribute<u64>> {
        (name == ATTRIBUTE).then_some(Attribute::Scalar(self.amount))
    }

    fn with_attribute(&self, name: &str, value: Attribute<u64>) -> Option<Self> {
        match (name, value) {
            (ATTRIBUTE, Attribute::Scalar(amount)) => Some(self.with_amount(amount)),
            _ => None,
        }
    }
}

/// Something that can't be: a bug.
#[derive(Clone, Debug)]
pub(super) struct Trouble(String);

impl Trouble {
    fn from(error: &dyn Error) -> Self {
        Trouble(error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an operation has done to the forest.
#[derive(Clone, Debug, Default)]
pub(super) struct Effect {
    /// Which entities have got a new version, once for each, and which were changed.
    pub(super) versions: Vec<EntityId>,
    pub(super) edits: Vec<EntityId>,
    /// Which have come into the world as roots, or have become such.
    pub(super) roots: Vec<EntityId>,
    /// How often others were faster.
    pub(super) conflicts: u64,
}

/// One tree: where its nodes are.
#[derive(Clone)]
pub(super) struct Plot {
    pub(super) root: EntityId,
    pub(super) sections: [EntityId; SECTIONS],
    pub(super) leaves: [EntityId; SECTIONS * LEAVES],
}

/// What an operation is to do, drawn by its number.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) kind: usize,
    pub(super) plot: Plot,
    pub(super) leaf: EntityId,
    pub(super) other: EntityId,
    pub(super) section: EntityId,
    pub(super) source: EntityId,
    pub(super) amount: u64,
}

/// A root, sections below it, and leaves below those.
pub(super) fn plant(forest: &Forest<Doc>) -> Plot {
    let leaves = std::array::from_fn(|_| forest.insert(Doc::new(Vec::new())));
    let sections = std::array::from_fn(|section| {
        let of_it = &leaves[section * LEAVES..(section + 1) * LEAVES];
        forest.insert(Doc::new(of_it.to_vec()))
    });
    let root = forest.insert(Doc::new(sections.to_vec()));
    forest.promote(&root).expect("it is nobody's child");
    Plot {
        root,
        sections,
        leaves,
    }
}

impl Job {
    /// Does it.
    pub(super) fn run(&self, forest: &Forest<Doc>) -> Result<Effect, Trouble> {
        let mut effect = Effect::default();
        match self.kind {
            0 => self.version(forest, &mut effect),
            1 => self.modify(forest, &mut effect),
            2 => self.borrow(forest, &mut effect),
            3 => self.complex(forest, &mut effect),
            4 => promote(forest, &mut effect),
            _ => self.detach(forest, &mut effect),
        }?;
        Ok(effect)
    }

    /// All nodes get a new version.
    fn version(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        loop {
            let tree = forest
                .tree(&self.plot.root)
                .map_err(|error| Trouble::from(&error))?;
            match forest.version_all(&tree) {
                Ok(_) => {
                    effect.versions.extend(tree.iter().map(|node| node.id));
                    return Ok(());
                }
                Err(error) => again(&error, effect)?,
            }
        }
    }

    /// The leaf alone.
    fn modify(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        forest
            .update(&self.leaf, |doc| doc.with_amount(doc.amount + self.amount))
            .map_err(|error| Trouble::from(&error))?;
        effect.versions.push(self.leaf);
        effect.edits.push(self.leaf);
        Ok(())
    }

    fn borrow(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        forest
            .borrow(&self.leaf, ATTRIBUTE, &self.source, ATTRIBUTE)
            .map_err(|error| Trouble::from(&error))?;
        effect.versions.push(self.leaf);
        effect.edits.push(self.leaf);
        Ok(())
    }

    /// Two leaves, and all above them.
    fn complex(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        let leaves = [self.leaf, self.other];
        self.edit(forest, effect, |tree| {
            let mut edit = tree.edit();
            for leaf in leaves {
                let doc = tree.get(&leaf).expect("no operation takes a leaf away");
                edit.set(leaf, doc.with_amount(doc.amount + self.amount));
            }
            edit.finish()
        })?;
        effect.edits.extend(leaves);
        Ok(())
    }

    /// A twig is grown, cut off, and becomes a root.
    fn detach(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        let (section, twig) = (self.section, EntityId::new());
        let children = |tree: &Tree<Doc>| {
            let section = tree
                .get(&section)
                .expect("no operation takes a section away");
            section.children.clone()
        };
        self.edit(forest, effect, |tree| {
            let mut edit = tree.edit();
            let (old, mut all) = (tree.get(&section).expect("it is there"), children(tree));
            all.push(twig);
            edit.set(twig, Doc::new(Vec::new()));
            edit.set(section, old.with_children(all));
            edit.finish()
        })?;
        // It is born at version 0, which is none that it gets.
        effect.versions.retain(|id| *id != twig);
        self.edit(forest, effect, |tree| {
            let mut edit = tree.edit();
            let (old, mut all) = (tree.get(&section).expect("it is there"), children(tree));
            all.retain(|id| *id != twig);
            edit.set(section, old.with_children(all));
            edit.finish()
        })?;
        forest
            .detach(&twig)
            .map_err(|error| Trouble::from(&error))?;
        effect.edits.extend([section, section]);
        effect.versions.push(twig);
        effect.roots.push(twig);
        Ok(())
    }

    /// Edits the tree until nobody is faster.
    fn edit(
        &self,
        forest: &Forest<Doc>,
        effect: &mut Effect,
        edit: impl Fn(&Tree<Doc>) -> Result<Tree<Doc>, snapcell::TreeError>,
    ) -> Result<(), Trouble> {
        loop {
            let tree = forest
                .tree(&self.plot.root)
                .map_err(|error| Trouble::from(&error))?;
            let edited = edit(&tree).map_err(|error| Trouble::from(&error))?;
            match forest.version(&edited) {
                Ok(versioned) if versioned.is_unchanged() => {
                    return Err(Trouble(
                        "an edit that changes something changed nothing".into(),
                    ));
                }
                Ok(_) => {
                    let diff = edited.diff(&tree);
                    effect.versions.extend(diff.modified());
                    return Ok(());
                }
                Err(error) => again(&error, effect)?,
            }
        }
    }
}

/// A new entity becomes a root.
pub(super) fn promote(forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
    let id = forest.insert(Doc::new(Vec::new()));
    forest.promote(&id).map_err(|error| Trouble::from(&error))?;
    effect.roots.push(id);
    Ok(())
}

/// Counts a conflict, after which the operation is tried again; nothing else is expected.
pub(super) fn again(error: &VersionError, effect: &mut Effect) -> Result<(), Trouble> {
    if !error.is_conflict() {
        return Err(Trouble::from(error));
    }
    effect.conflicts += 1;
    Ok(())
}

impl Effect {
    pub(super) fn add(&mut self, other: &Effect) {
        self.versions.extend(&other.versions);
        self.edits.extend(&other.edits);
        self.roots.extend(&other.roots);
        self.conflicts += other.conflicts;
    }
}
