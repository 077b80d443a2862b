//! Trees over the store: what is a tree, what differs between two, and what is committed of one.
#![cfg(feature = "store")]

use proptest::prelude::*;
use snapcell::{
    Children, Edge, EntityId, Forest, ForestError, LineageId, Moved, Place, Repetition, Stamp,
    Tree, TreeError, Unknown, VersionError, Versioned,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

/// Children in a list, and something that may change.
#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    data: u64,
    kids: Vec<EntityId>,
}

impl Node {
    fn of(kids: impl Into<Vec<EntityId>>) -> Self {
        let kids = kids.into();
        Node { data: 0, kids }
    }

    fn with_data(&self, data: u64) -> Self {
        Node {
            data,
            kids: self.kids.clone(),
        }
    }

    fn without(&self, id: &EntityId) -> Self {
        let kids = self.kids.iter().filter(|kid| *kid != id);
        Node {
            kids: kids.copied().collect(),
            ..*self
        }
    }

    fn and(&self, id: EntityId) -> Self {
        Node {
            kids: self.kids.iter().copied().chain([id]).collect(),
            ..*self
        }
    }
}

impl Children for Node {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        for (index, id) in self.kids.iter().enumerate() {
            each(Edge::list("kids", index), *id);
        }
    }
}

fn id(n: u128) -> EntityId {
    EntityId::from_bits(n)
}

fn sorted(ids: impl IntoIterator<Item = EntityId>) -> Vec<EntityId> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids
}

fn version_of(forest: &Forest<Node>, id: &EntityId) -> u64 {
    forest.get(id).expect("it is there").stamp().version()
}

/// A forest with these entities, each with the children given.
fn forest_of(nodes: &[(u128, &[u128])]) -> Forest<Node> {
    let forest = Forest::new();
    for (node, kids) in nodes {
        let kids: Vec<_> = kids.iter().copied().map(id).collect();
        forest
            .insert_with(id(*node), Node::of(kids))
            .expect("ids are given once");
    }
    forest
}

/// The same, whose first entity is a root.
fn rooted(nodes: &[(u128, &[u128])]) -> (Forest<Node>, Tree<Node>) {
    let forest = forest_of(nodes);
    forest.promote(&id(nodes[0].0)).expect("it is an orphan");
    let tree = forest.tree(&id(nodes[0].0)).expect("it is a tree");
    (forest, tree)
}

fn committed(versioned: Result<Versioned<Node>, VersionError>) -> Tree<Node> {
    let tree = versioned.expect("nobody is in the way").into_tree();
    tree.expect("something has changed")
}

/// The order in which it was walked, edges and values included: what a tree is.
fn outline(tree: &Tree<Node>) -> Vec<(usize, EntityId, Option<Edge>, Node)> {
    let nodes = tree.iter();
    nodes
        .map(|node| (node.depth, node.id, node.edge.cloned(), node.value.clone()))
        .collect()
}

// Acceptance: 1, and 6 to 13.

#[test]
fn a_new_entity_is_an_orphan_at_version_0_and_promotion_leaves_it_there() {
    let forest = Forest::new();
    let new = forest.insert(Node::default());
    assert_eq!(version_of(&forest, &new), 0);
    assert!(forest.is_orphan(&new) && !forest.is_root(&new));
    assert_eq!(forest.parent(&new), None);
    assert!(forest.roots().is_empty());

    let before = forest.get(&new).unwrap();
    forest.promote(&new).unwrap();
    assert!(forest.is_root(&new) && !forest.is_orphan(&new));
    assert_eq!(forest.root_of(&new), Ok(new));
    assert_eq!(forest.roots(), [new]);
    let after = forest.get(&new).unwrap();
    assert!(snapcell::Version::ptr_eq(&before, &after), "no new version");
    assert_eq!(forest.lineage(LineageId::of(new)), [new]);

    assert_eq!(forest.promote(&new), Err(ForestError::AlreadyRoot(new)));
    assert_eq!(forest.detach(&new), Err(ForestError::AlreadyRoot(new)));
    assert_eq!(version_of(&forest, &new), 0);
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn a_child_is_not_promoted_while_it_is_named() {
    let (forest, _) = rooted(&[(1, &[2]), (2, &[])]);
    let named = ForestError::Named {
        id: id(2),
        by: id(1),
    };
    assert_eq!(forest.promote(&id(2)), Err(named));
    assert_eq!(forest.detach(&id(2)), Err(named));
    assert!(!forest.is_root(&id(2)) && !forest.is_orphan(&id(2)));
    let nobody = ForestError::Unknown(Unknown(id(9)));
    assert_eq!(forest.promote(&id(9)), Err(nobody));
    assert_eq!(forest.attach(&id(9), &id(1)), Err(nobody));
    assert_eq!(forest.path(&id(9)), Err(nobody));
}

#[test]
fn marking_as_modified_counts_versions_and_time_never_falls() {
    let forest = Forest::new();
    let node = forest.insert(Node::default());
    let before = forest.get(&node).unwrap();
    let mut stamps = vec![before.stamp()];
    for n in 1..=100 {
        let stamp = forest.mark_modified(&node).unwrap();
        assert_eq!(stamp.version(), n);
        assert!(stamp.time() >= stamps[stamps.len() - 1].time());
        stamps.push(stamp);
    }
    assert_eq!(BTreeSet::from_iter(stamps).len(), 101);
    assert!(
        forest
            .try_commit(&node, before.stamp(), Node::default())
            .is_err()
    );
    assert_eq!(*forest.get(&node).unwrap(), *before);
    assert_eq!(forest.mark_modified(&id(9)), Err(Unknown(id(9))));
}

#[test]
fn versioning_without_change_is_unchanged() {
    let (forest, tree) = rooted(&[(1, &[2]), (2, &[])]);
    assert!(forest.version(&tree).unwrap().is_unchanged());
    // An equal value is no change either, and neither is one that was changed back.
    let same = tree.with(id(2), Node::default()).unwrap();
    assert!(same.shares(&tree, &id(1)) && !same.is_edited());
    let there = tree.with(id(2), Node::default().with_data(5)).unwrap();
    let back = there.with(id(2), Node::default()).unwrap();
    assert!(back.is_edited());
    assert!(forest.version(&back).unwrap().is_unchanged());
    assert_eq!(
        (version_of(&forest, &id(1)), version_of(&forest, &id(2))),
        (0, 0)
    );

    let changed = committed(forest.version(&there));
    assert_eq!(
        (version_of(&forest, &id(1)), version_of(&forest, &id(2))),
        (1, 1)
    );
    assert_eq!(changed.get(&id(2)).unwrap().data, 5);
    assert!(forest.version(&changed).unwrap().is_unchanged());
}

#[test]
fn versioning_what_is_no_root_is_an_error() {
    let forest = forest_of(&[(1, &[2]), (2, &[])]);
    let tree = forest.tree(&id(1)).unwrap();
    let edited = tree.with(id(1), Node::default()).unwrap();
    assert_eq!(
        forest.version(&tree).unwrap_err(),
        VersionError::Orphan(id(1))
    );
    assert_eq!(
        forest.version(&edited).unwrap_err(),
        VersionError::Orphan(id(1))
    );
    let child = forest.tree(&id(2)).unwrap();
    let of_another = VersionError::Child {
        id: id(2),
        by: id(1),
    };
    assert_eq!(forest.version(&child).unwrap_err(), of_another);
    forest.promote(&id(1)).unwrap();
    forest.remove(&id(1)).unwrap();
    let gone = VersionError::Unknown(Unknown(id(1)));
    assert_eq!(forest.version(&edited).unwrap_err(), gone);
}

#[test]
fn a_parent_with_three_children_has_four_nodes_three_edges_and_depth_two() {
    let (forest, tree) = rooted(&[(1, &[2, 3, 4]), (2, &[]), (3, &[]), (4, &[])]);
    assert_eq!((tree.len(), tree.edges(), tree.depth()), (4, 3, 2));
    for (index, kid) in [id(2), id(3), id(4)].into_iter().enumerate() {
        assert_eq!(tree.path(&kid), [id(1), kid]);
        assert_eq!(tree.edge(&kid), Some(&Edge::list("kids", index)));
        assert_eq!(tree.parent(&kid), Some(id(1)));
        assert_eq!(forest.path(&kid).unwrap(), [id(1), kid]);
        assert_eq!(forest.parent(&kid), Some(id(1)));
    }
    assert_eq!((tree.edge(&id(1)), tree.parent(&id(1))), (None, None));
    assert_eq!(tree.path(&id(1)), [id(1)]);
    assert_eq!(tree.children(&id(1)).count(), 3);
    assert!(!tree.contains(&id(9)) && tree.get(&id(9)).is_none());
    assert!(tree.path(&id(9)).is_empty() && tree.children(&id(9)).next().is_none());
    let order: Vec<_> = tree.iter().map(|node| node.id).collect();
    assert_eq!(order, [id(1), id(2), id(3), id(4)]);
}

#[test]
fn keys_indexes_and_kinds_of_edges_are_kept() {
    #[derive(Clone, PartialEq)]
    struct Doc {
        title: Option<EntityId>,
        pair: Option<(EntityId, EntityId)>,
        by_name: BTreeMap<String, EntityId>,
        tags: BTreeSet<EntityId>,
    }
    impl Children for Doc {
        fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
            if let Some(id) = self.title {
                each(Edge::direct("title"), id);
            }
            if let Some((left, right)) = self.pair {
                each(Edge::tuple("pair", 0), left);
                each(Edge::tuple("pair", 1), right);
            }
            for (name, id) in &self.by_name {
                each(Edge::key("by_name", name.as_str()), *id);
            }
            self.tags.iter().for_each(|id| each(Edge::set("tags"), *id));
        }
    }
    let leaf = || Doc {
        title: None,
        pair: None,
        by_name: BTreeMap::new(),
        tags: BTreeSet::new(),
    };
    let forest = Forest::new();
    let [a, b, c, d, e] = std::array::from_fn(|_| forest.insert(leaf()));
    let root = forest.insert(Doc {
        title: Some(a),
        pair: Some((b, c)),
        by_name: BTreeMap::from([("key".to_owned(), d)]),
        tags: BTreeSet::from([e]),
    });
    let tree = forest.tree(&root).unwrap();
    let places: Vec<_> = tree
        .children(&root)
        .map(|(edge, id)| (id, edge.place.clone()))
        .collect();
    assert_eq!(
        places,
        [
            (a, Place::Direct),
            (b, Place::Tuple(0)),
            (c, Place::Tuple(1)),
            (d, Place::Key("key".into())),
            (e, Place::Set),
        ]
    );
    let shown: Vec<_> = tree
        .children(&root)
        .map(|(edge, _)| edge.to_string())
        .collect();
    assert_eq!(
        shown,
        ["title", "pair.0", "pair.1", "by_name[\"key\"]", "tags{}"]
    );
    let own = forest
        .children(&root)
        .unwrap()
        .into_iter()
        .map(|(edge, id)| (id, edge.place));
    assert!(own.eq(places));
}

fn repeated(forest: &Forest<Node>, root: u128) -> (EntityId, Repetition, [Vec<u128>; 2]) {
    let Err(TreeError::Repeated(repeated)) = forest.tree(&id(root)) else {
        panic!("it is no tree")
    };
    let bits = |path: &[EntityId]| path.iter().map(|id| id.to_bits()).collect();
    let paths = [bits(&repeated.first), bits(&repeated.second)];
    let text = repeated.to_string();
    assert!(text.contains(&repeated.id.to_string()), "{text}");
    (repeated.id, repeated.how, paths)
}

#[test]
fn what_is_named_twice_is_an_error_that_names_it_and_both_ways() {
    let itself = forest_of(&[(1, &[1])]);
    assert_eq!(
        repeated(&itself, 1),
        (id(1), Repetition::Itself, [vec![1], vec![1, 1]])
    );
    let cycle = forest_of(&[(1, &[2]), (2, &[3]), (3, &[1])]);
    assert_eq!(
        repeated(&cycle, 1),
        (id(1), Repetition::Cycle, [vec![1], vec![1, 2, 3, 1]])
    );
    let lower = forest_of(&[(1, &[2]), (2, &[3]), (3, &[2])]);
    assert_eq!(
        repeated(&lower, 1),
        (id(2), Repetition::Cycle, [vec![1, 2], vec![1, 2, 3, 2]])
    );
    let twice = forest_of(&[(1, &[2, 2]), (2, &[])]);
    assert_eq!(
        repeated(&twice, 1),
        (id(2), Repetition::Twice, [vec![1, 2], vec![1, 2]])
    );
    let diamond = forest_of(&[(1, &[2, 3]), (2, &[4]), (3, &[4]), (4, &[])]);
    assert_eq!(
        repeated(&diamond, 1),
        (id(4), Repetition::Diamond, [vec![1, 2, 4], vec![1, 3, 4]])
    );
    assert_eq!(
        diamond.path(&id(4)),
        Err(ForestError::Several {
            id: id(4),
            parents: [id(2), id(3)]
        })
    );
    assert!(matches!(
        cycle.root_of(&id(2)),
        Err(ForestError::Endless(_))
    ));
}

#[test]
fn what_is_named_and_is_not_there_is_an_error_with_the_way_to_it() {
    let forest = forest_of(&[(1, &[2]), (2, &[3])]);
    let path = vec![id(1), id(2), id(3)];
    assert_eq!(
        forest.tree(&id(1)).unwrap_err(),
        TreeError::Unknown { id: id(3), path }
    );
    let path = vec![id(9)];
    assert_eq!(
        forest.tree(&id(9)).unwrap_err(),
        TreeError::Unknown { id: id(9), path }
    );
    assert_eq!(
        forest.parent(&id(3)),
        Some(id(2)),
        "whoever names it is its parent"
    );
}

#[test]
fn a_changed_leaf_modifies_itself_and_all_above_it_and_nothing_else() {
    let (forest, tree) = rooted(&[(1, &[2]), (2, &[3, 4]), (3, &[]), (4, &[])]);
    let edited = tree.with(id(3), Node::default().with_data(7)).unwrap();
    let diff = edited.diff(&tree);
    assert_eq!(diff.modified(), [id(1), id(2), id(3)]);
    assert_eq!(diff.changed(), [id(3)]);
    assert!(diff.added().is_empty() && diff.removed().is_empty() && diff.moved().is_empty());
    assert!(edited.shares(&tree, &id(4)) && !edited.shares(&tree, &id(2)));

    let after = committed(forest.version(&edited));
    let versions: Vec<_> = (1..=4).map(|n| version_of(&forest, &id(n))).collect();
    assert_eq!(versions, [1, 1, 1, 0]);
    assert!(after.shares(&tree, &id(4)));
    // All that is new has one time, and the tree knows it: it is a base.
    let times: BTreeSet<_> = (1..=3)
        .map(|n| after.stamp(&id(n)).unwrap().time())
        .collect();
    assert_eq!(times.len(), 1);
    for n in 1..=4 {
        assert_eq!(
            after.stamp(&id(n)),
            Some(forest.get(&id(n)).unwrap().stamp())
        );
    }
    assert!(!after.is_edited());
    assert_eq!(outline(&after), outline(&forest.tree(&id(1)).unwrap()));
    assert_eq!(
        tree.get(&id(3)).unwrap().data,
        0,
        "the old tree is as it was"
    );
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn a_child_appended_to_an_empty_root_modifies_both() {
    let (forest, tree) = rooted(&[(1, &[])]);
    let mut edit = tree.edit();
    let child = edit.add(Node::default());
    edit.set(id(1), Node::of([child]));
    assert_eq!(edit.get(&child), Some(&Node::default()));
    let edited = edit.finish().unwrap();
    let diff = edited.diff(&tree);
    assert_eq!(diff.modified(), sorted([child, id(1)]));
    assert_eq!((diff.added(), diff.changed()), (&[child][..], &[id(1)][..]));
    assert!(forest.get(&child).is_err(), "it is not born yet");
    assert_eq!(edited.stamp(&child), None);
    let after = committed(forest.version(&edited));
    assert_eq!(
        (version_of(&forest, &id(1)), version_of(&forest, &child)),
        (1, 0)
    );
    assert_eq!(forest.parent(&child), Some(id(1)));
    assert_eq!(after.path(&child), [id(1), child]);
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn a_removed_child_modifies_its_parent_and_all_above_and_stays_in_the_old_tree() {
    for count in 1..=3_u128 {
        let kids: Vec<_> = (10..10 + count).collect();
        let mut nodes: Vec<(u128, &[u128])> = vec![(1, &[2, 3]), (2, &kids), (3, &[])];
        nodes.extend(kids.iter().map(|kid| (*kid, &[][..])));
        for gone in kids.iter().copied().map(id) {
            let (forest, tree) = rooted(&nodes);
            let parent = tree.get(&id(2)).unwrap().without(&gone);
            let edited = tree.with(id(2), parent).unwrap();
            let diff = edited.diff(&tree);
            assert_eq!(diff.modified(), [id(1), id(2)]);
            assert_eq!(diff.removed(), [gone]);
            assert_eq!(
                diff.changed(),
                [id(2)],
                "an edge that shifts is no change of the child"
            );
            assert!(diff.moved().is_empty() && diff.added().is_empty());
            let after = committed(forest.version(&edited));
            assert_eq!(
                (version_of(&forest, &id(1)), version_of(&forest, &id(2))),
                (1, 1)
            );
            assert!(tree.contains(&gone) && !after.contains(&gone));
            assert_eq!(tree.path(&gone), [id(1), id(2), gone]);
            assert_eq!(after.len(), tree.len() - 1);
            // In the store it stays, nobody's child.
            assert_eq!(version_of(&forest, &gone), 0);
            assert!(forest.is_orphan(&gone));
            let rest: Vec<_> = after
                .children(&id(2))
                .map(|(edge, _)| edge.clone())
                .collect();
            let expected: Vec<_> = (0..kids.len() - 1)
                .map(|at| Edge::list("kids", at))
                .collect();
            assert_eq!(rest, expected);
            assert_eq!(forest.validate(), Ok(()));
        }
    }
}

#[test]
fn a_detached_child_is_a_root_with_a_new_version_and_attached_it_joins_the_line_of_the_new_root() {
    let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[]), (3, &[]), (4, &[5]), (5, &[])]);
    let (old, new, child) = (id(1), id(4), id(2));
    forest.promote(&new).unwrap();
    committed(forest.version(&tree.with(old, Node::of([id(3)])).unwrap()));
    assert_eq!(version_of(&forest, &child), 0);
    forest.detach(&child).unwrap();
    assert!(forest.is_root(&child));
    assert_eq!(
        (version_of(&forest, &child), forest.root_of(&child)),
        (1, Ok(child))
    );
    assert_eq!(forest.lineage_of(&child), Ok(LineageId::of(child)));

    // What isn't in that tree, or is no root, isn't attached, and nothing changes.
    let before: Vec<_> = forest
        .ids()
        .iter()
        .map(|id| forest.get(id).unwrap().stamp())
        .collect();
    let not_below = |id, root| Err(ForestError::NotBelow { id, root });
    assert_eq!(forest.attach(&child, &new), not_below(child, new));
    assert_eq!(forest.attach(&child, &child), not_below(child, child));
    assert_eq!(
        forest.attach(&id(5), &new),
        Err(ForestError::NotRoot(id(5)))
    );
    assert_eq!(
        forest.attach(&child, &id(5)),
        Err(ForestError::NotRoot(id(5)))
    );
    let after: Vec<_> = forest
        .ids()
        .iter()
        .map(|id| forest.get(id).unwrap().stamp())
        .collect();
    assert_eq!(before, after);
    assert!(forest.is_root(&child) && !forest.is_root(&id(5)));

    // Named deep in the other tree: all on the way get a new version, exactly one.
    forest.update(&id(5), |node| node.and(child)).unwrap();
    assert!(forest.is_root(&child), "until it is attached");
    forest.attach(&child, &new).unwrap();
    assert!(!forest.is_root(&child) && !forest.is_orphan(&child));
    assert_eq!(forest.root_of(&child), Ok(new));
    assert_eq!(forest.lineage_of(&child), forest.lineage_of(&new));
    assert_eq!(forest.lineage(LineageId::of(new)), sorted([child, new]));
    assert!(forest.lineage(LineageId::of(child)).is_empty());
    let versions = [new, id(5), child].map(|id| version_of(&forest, &id));
    assert_eq!(versions, [1, 2, 2], "two entries of the new root: 0 and 1");
    let stamps = [new, id(5), child].map(|id| forest.get(&id).unwrap().stamp().time());
    assert!(
        stamps.iter().all(|time| *time == stamps[0]),
        "at one moment"
    );
    assert_eq!(
        forest.attach(&child, &new),
        Err(ForestError::NotRoot(child))
    );
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn an_adopted_tree_is_attached_by_the_version_that_names_it() {
    let (forest, tree) = rooted(&[(1, &[2]), (2, &[]), (4, &[5]), (5, &[])]);
    forest.promote(&id(4)).unwrap();
    let other = forest.tree(&id(4)).unwrap();
    let mut edit = tree.edit();
    edit.adopt(&other).set(id(2), Node::of([id(4)]));
    let edited = edit.finish().unwrap();
    assert_eq!(edited.path(&id(5)), [id(1), id(2), id(4), id(5)]);
    assert_eq!(edited.diff(&tree).added(), [id(4), id(5)]);
    let after = committed(forest.version(&edited));
    let versions = [1, 2, 4, 5].map(|n| version_of(&forest, &id(n)));
    assert_eq!(versions, [1, 1, 1, 1]);
    assert!(!forest.is_root(&id(4)));
    assert_eq!(forest.lineage_of(&id(4)), Ok(LineageId::of(id(1))));
    assert_eq!(after.stamp(&id(4)).unwrap().version(), 1);
    assert_eq!(forest.validate(), Ok(()));

    // Not if it has been changed meanwhile.
    let (forest, tree) = rooted(&[(1, &[]), (4, &[])]);
    forest.promote(&id(4)).unwrap();
    let mut edit = tree.edit();
    edit.adopt(&forest.tree(&id(4)).unwrap())
        .set(id(1), Node::of([id(4)]));
    let edited = edit.finish().unwrap();
    let expected = forest.get(&id(4)).unwrap().stamp();
    let found = Some(forest.mark_modified(&id(4)).unwrap());
    let conflict = VersionError::Conflict {
        id: id(4),
        expected,
        found,
    };
    assert_eq!(forest.version(&edited).unwrap_err(), conflict);
    assert!(forest.is_root(&id(4)) && version_of(&forest, &id(1)) == 0);

    // Nor while another tree has it.
    let (forest, tree) = rooted(&[(1, &[]), (4, &[5]), (5, &[])]);
    forest.promote(&id(4)).unwrap();
    let mut edit = tree.edit();
    edit.adopt(&forest.tree(&id(5)).unwrap())
        .set(id(1), Node::of([id(5)]));
    let named = VersionError::Named {
        id: id(5),
        by: id(4),
    };
    assert_eq!(forest.version(&edit.finish().unwrap()).unwrap_err(), named);
}

#[test]
fn what_is_adopted_may_be_edited_as_well_in_whatever_order() {
    let grown = |by: &dyn Fn(&mut snapcell::Edit<'_, Node>, &Tree<Node>)| {
        let (forest, tree) = rooted(&[(1, &[]), (4, &[5]), (5, &[])]);
        forest.promote(&id(4)).unwrap();
        let other = forest.tree(&id(4)).unwrap();
        let mut edit = tree.edit();
        edit.set(id(1), Node::of([id(4)]));
        by(&mut edit, &other);
        let edited = edit.finish().unwrap();
        let after = committed(forest.version(&edited));
        let versions = [1, 4, 5].map(|n| version_of(&forest, &id(n)));
        assert_eq!(versions, [1, 1, 1]);
        assert_eq!(forest.get(&id(5)).unwrap().data, 7);
        assert_eq!(after.get(&id(5)).unwrap().data, 7);
        assert_eq!(forest.roots(), [id(1)]);
        forest.validate().expect("everything fits together");
    };
    let with_child = Node::of([]).with_data(7);
    grown(&|edit, other| {
        edit.adopt(other).set(id(5), with_child.clone());
    });
    grown(&|edit, other| {
        edit.set(id(5), with_child.clone()).adopt(other);
    });
    grown(&|edit, other| {
        edit.adopt(&other.with(id(5), with_child.clone()).unwrap());
    });
    grown(&|edit, other| {
        let other = other.with(id(5), Node::of([]).with_data(3)).unwrap();
        edit.adopt(&other).set(id(5), with_child.clone());
    });

    // What was adopted before is no value of this edit: the later one counts, with what it was made of.
    let (forest, tree) = rooted(&[(1, &[]), (4, &[])]);
    forest.promote(&id(4)).unwrap();
    let stale = forest
        .tree(&id(4))
        .unwrap()
        .with(id(4), with_child.clone())
        .unwrap();
    forest.update(&id(4), |node| node.with_data(9)).unwrap();
    let mut edit = tree.edit();
    edit.adopt(&stale)
        .adopt(&forest.tree(&id(4)).unwrap())
        .set(id(1), Node::of([id(4)]));
    let edited = edit.finish().unwrap();
    committed(forest.version(&edited));
    assert_eq!(forest.get(&id(4)).unwrap().data, 9);

    // By an edit of what was edited.
    let (forest, tree) = rooted(&[(1, &[]), (4, &[])]);
    forest.promote(&id(4)).unwrap();
    let mut edit = tree.edit();
    edit.adopt(&forest.tree(&id(4)).unwrap())
        .set(id(1), Node::of([id(4)]));
    let adopted = edit.finish().unwrap();
    let edited = adopted.with(id(4), with_child).unwrap();
    assert!(adopted.stamp(&id(4)).is_some());
    assert_eq!(edited.stamp(&id(4)), None, "it isn't what is in the store");
    let after = committed(forest.version(&edited));
    assert_eq!(forest.get(&id(4)).unwrap().data, 7);
    assert_eq!(after.stamp(&id(4)).unwrap().version(), 1);
    // Once: it is not what it was any more.
    assert!(forest.version(&edited).unwrap_err().is_conflict());
}

#[test]
fn what_is_above_itself_is_not_attached() {
    let (forest, _) = rooted(&[(1, &[]), (2, &[]), (3, &[])]);
    for n in [2, 3] {
        forest.promote(&id(n)).unwrap();
    }
    forest.update(&id(2), |node| node.and(id(1))).unwrap();
    forest.update(&id(3), |node| node.and(id(2))).unwrap();
    forest.update(&id(1), |node| node.and(id(3))).unwrap();
    let before = [1, 2, 3].map(|n| version_of(&forest, &id(n)));
    let refused = forest.attach(&id(1), &id(2));
    assert!(
        matches!(refused, Err(ForestError::Endless(_))),
        "{refused:?}"
    );
    assert_eq!(before, [1, 2, 3].map(|n| version_of(&forest, &id(n))));
    assert_eq!(forest.roots(), [id(1), id(2), id(3)]);

    // What is above only is no hindrance: it may be attached bottom-up.
    forest.update(&id(1), |node| node.without(&id(3))).unwrap();
    forest.attach(&id(1), &id(2)).unwrap();
    forest.attach(&id(2), &id(3)).unwrap();
    assert_eq!(forest.roots(), [id(3)]);
    forest.validate().expect("everything fits together");
}

// Edits and diffs.

#[test]
fn several_trees_are_adopted_at_once_and_all_join_the_line() {
    let (forest, tree) = rooted(&[(1, &[])]);
    let mut edit = tree.edit();
    let others: Vec<_> = (2..6).map(id).collect();
    for other in &others {
        forest.insert_with(*other, Node::of([])).expect("it is new");
        forest.promote(other).expect("it is an orphan");
        edit.adopt(&forest.tree(other).expect("it is one"));
    }
    edit.set(id(1), Node::of(others.clone()));
    let adopted = edit.finish().expect("it is one still");
    let committed = committed(forest.version(&adopted));
    assert_eq!(committed.len(), 5);
    assert_eq!(forest.roots(), [id(1)]);
    let all = sorted(others.into_iter().chain([id(1)]));
    assert_eq!(forest.lineage(LineageId::of(id(1))), all);
    forest.validate().expect("everything fits together");
}

#[test]
fn a_moved_node_modifies_both_parents_and_itself_but_not_what_is_below_it() {
    let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[4]), (3, &[]), (4, &[5]), (5, &[])]);
    let mut edit = tree.edit();
    edit.set(id(2), Node::default())
        .set(id(3), Node::of([id(4)]));
    let edited = edit.finish().unwrap();
    assert!(edited.shares(&tree, &id(4)));
    assert_eq!(edited.path(&id(5)), [1, 3, 4, 5].map(id));
    let diff = edited.diff(&tree);
    let moved = diff.moved();
    assert!(matches!(moved, [Moved { id: of, from, to, .. }]
        if (*of, *from, *to) == (id(4), Some(id(2)), Some(id(3)))));
    assert_eq!(diff.changed(), [id(2), id(3)]);
    assert_eq!(diff.modified(), [1, 2, 3, 4].map(id));
    assert!(!diff.is_empty() && tree.diff(&tree).is_empty());
    let after = committed(forest.version(&edited));
    assert_eq!(
        [1, 2, 3, 4, 5].map(|n| version_of(&forest, &id(n))),
        [1, 1, 1, 1, 0]
    );
    assert_eq!(forest.path(&id(5)).unwrap(), after.path(&id(5)));
    assert!(after.shares(&tree, &id(5)));
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn an_old_parent_that_is_removed_modifies_what_it_was_below() {
    let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[4]), (3, &[]), (4, &[])]);
    let mut edit = tree.edit();
    edit.set(id(1), Node::of([id(3)]))
        .set(id(3), Node::of([id(4)]));
    let edited = edit.finish().unwrap();
    let diff = edited.diff(&tree);
    assert_eq!(
        (diff.removed(), diff.modified()),
        (&[id(2)][..], &[1, 3, 4].map(id)[..])
    );
    committed(forest.version(&edited));
    assert_eq!(
        forest.parents(&id(4)).to_vec(),
        [id(2), id(3)],
        "one of which is in no tree"
    );
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn shifted_places_change_the_parent_alone() {
    let (_, tree) = rooted(&[(1, &[2, 3]), (2, &[]), (3, &[])]);
    let edited = tree.with(id(1), Node::of([id(3), id(2)])).unwrap();
    let diff = edited.diff(&tree);
    assert_eq!(
        (diff.changed(), diff.modified()),
        (&[id(1)][..], &[id(1)][..])
    );
    assert_eq!(edited.edge(&id(3)), Some(&Edge::list("kids", 0)));
    assert!(edited.shares(&tree, &id(2)) && edited.shares(&tree, &id(3)));
}

#[test]
fn parent_and_child_may_change_places() {
    let (forest, tree) = rooted(&[(1, &[2]), (2, &[3]), (3, &[])]);
    let mut edit = tree.edit();
    edit.set(id(1), Node::of([id(3)]))
        .set(id(3), Node::of([id(2)]))
        .set(id(2), Node::default());
    let edited = edit.finish().unwrap();
    assert_eq!(edited.path(&id(2)), [1, 3, 2].map(id));
    assert_eq!(edited.diff(&tree).moved().len(), 2);
    committed(forest.version(&edited));
    assert_eq!(forest.path(&id(2)).unwrap(), [1, 3, 2].map(id));
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn an_edit_that_is_no_tree_is_refused() {
    let (_, tree) = rooted(&[(1, &[2, 3]), (2, &[4]), (3, &[]), (4, &[5]), (5, &[])]);
    let how = |edited: Result<Tree<Node>, TreeError>| match edited {
        Err(TreeError::Repeated(repeated)) => (repeated.id, repeated.how, repeated.second),
        other => panic!("{other:?}"),
    };
    let cycle = how(tree.with(id(5), Node::of([id(2)])));
    assert_eq!(
        cycle,
        (id(2), Repetition::Cycle, [1, 2, 4, 5, 2].map(id).to_vec())
    );
    let itself = how(tree.with(id(5), Node::of([id(5)])));
    assert_eq!((itself.0, itself.1), (id(5), Repetition::Itself));
    let twice = how(tree.with(id(3), Node::of([id(5), id(5)])));
    assert_eq!((twice.0, twice.1), (id(5), Repetition::Twice));
    // Named by a branch that is taken as it is.
    let diamond = how(tree.with(id(3), Node::of([id(5)])));
    assert_eq!(
        diamond,
        (id(5), Repetition::Diamond, [1, 2, 4, 5].map(id).to_vec())
    );
    // Or directly above.
    let diamond = how(tree.with(id(3), Node::of([id(4)])));
    assert_eq!(
        diamond,
        (id(4), Repetition::Diamond, [1, 2, 4].map(id).to_vec())
    );
    // Or by one that is on the way to another change, which names it still.
    let mut edit = tree.edit();
    edit.set(id(3), Node::of([id(4)]));
    edit.set(id(5), Node::default().with_data(1));
    let diamond = how(edit.finish());
    assert_eq!((diamond.0, diamond.1), (id(4), Repetition::Diamond));
    let mut edit = tree.edit();
    let new = edit.add(Node::of([id(5)]));
    edit.set(id(3), Node::of([new]));
    let diamond = how(edit.finish());
    assert_eq!(
        diamond,
        (id(5), Repetition::Diamond, [1, 2, 4, 5].map(id).to_vec())
    );
    let root = how(tree.with(id(3), Node::of([id(1)])));
    assert_eq!((root.0, root.1), (id(1), Repetition::Cycle));

    let missing = tree.with(id(3), Node::of([id(9)])).unwrap_err();
    let path = [1, 3, 9].map(id).to_vec();
    assert_eq!(missing, TreeError::Unknown { id: id(9), path });
    let loose = tree.with(id(9), Node::default()).unwrap_err();
    assert_eq!(loose, TreeError::Loose(id(9)));
    // Removed, and given a value all the same.
    let mut edit = tree.edit();
    edit.set(id(2), Node::default()).set(id(4), Node::default());
    assert_eq!(edit.finish().unwrap_err(), TreeError::Loose(id(4)));
}

#[test]
fn a_stale_tree_is_refused_as_a_whole_and_the_error_names_one_node() {
    let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[]), (3, &[])]);
    let mut edit = tree.edit();
    let new = edit.add(Node::default());
    edit.set(id(2), Node::of([new]))
        .set(id(3), Node::default().with_data(1));
    let edited = edit.finish().unwrap();
    let expected = forest.get(&id(3)).unwrap().stamp();
    let found = forest.mark_modified(&id(3)).unwrap();
    let error = forest.version(&edited).unwrap_err();
    assert_eq!(
        error,
        VersionError::Conflict {
            id: id(3),
            expected,
            found: Some(found)
        }
    );
    assert!(error.is_conflict() && error.to_string().contains(&id(3).to_string()));
    assert_eq!(
        (version_of(&forest, &id(1)), version_of(&forest, &id(2))),
        (0, 0)
    );
    assert!(forest.get(&new).is_err() && forest.parents(&new).is_empty());
    assert_eq!(forest.len(), 3);

    forest.remove(&id(3)).unwrap();
    let error = forest.version(&edited).unwrap_err();
    assert_eq!(
        error,
        VersionError::Conflict {
            id: id(3),
            expected,
            found: None
        }
    );

    // Whoever begins anew gets through; what others have changed elsewhere is in nobody's way.
    let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[]), (3, &[])]);
    let edited = tree.with(id(2), Node::default().with_data(1)).unwrap();
    forest.mark_modified(&id(3)).unwrap();
    committed(forest.version(&edited));
    assert!(forest.version(&edited).is_err());
    let again = forest
        .tree(&id(1))
        .unwrap()
        .with(id(2), Node::default().with_data(2))
        .unwrap();
    committed(forest.version(&again));
    assert_eq!(version_of(&forest, &id(1)), 2);
}

#[test]
fn a_new_node_with_an_id_that_is_taken_is_refused() {
    let (forest, tree) = rooted(&[(1, &[])]);
    let mut edit = tree.edit();
    edit.set(id(7), Node::default())
        .set(id(1), Node::of([id(7)]));
    let edited = edit.finish().unwrap();
    forest.insert_with(id(7), Node::default()).unwrap();
    assert_eq!(
        forest.version(&edited).unwrap_err(),
        VersionError::Taken(id(7))
    );
    forest.remove(&id(7)).unwrap();
    committed(forest.version(&edited));
    assert_eq!(version_of(&forest, &id(7)), 0);
}

#[test]
fn edits_go_on_from_what_was_committed_and_from_each_other() {
    let (forest, mut tree) = rooted(&[(1, &[2]), (2, &[])]);
    for n in 1..=50 {
        let edited = tree.with(id(2), Node::default().with_data(n)).unwrap();
        tree = committed(forest.version(&edited));
        assert_eq!(tree.stamp(&id(1)).unwrap().version(), n);
    }
    // Several edits, one version; what an edit has brought and another has taken never was.
    let mut edit = tree.edit();
    let new = edit.add(Node::default());
    edit.set(id(1), Node::of([id(2), new]));
    let twice = edit
        .finish()
        .unwrap()
        .with(new, Node::default().with_data(3))
        .unwrap();
    let after = committed(forest.version(&twice));
    assert_eq!(
        (version_of(&forest, &new), version_of(&forest, &id(1))),
        (0, 51)
    );
    assert_eq!(forest.get(&new).unwrap().data, 3);
    let mut edit = after.edit();
    let never = edit.add(Node::default());
    edit.set(new, Node::of([never]).with_data(3));
    let back = edit
        .finish()
        .unwrap()
        .with(new, Node::default().with_data(3))
        .unwrap();
    assert!(forest.version(&back).unwrap().is_unchanged());
    assert!(forest.get(&never).is_err());
    // A copy that is older than the store's value knows what it has committed.
    let edited = after.with(id(2), Node::default()).unwrap();
    assert_eq!(edited.stamp(&id(2)), None::<Stamp>);
}

#[test]
fn all_of_a_tree_may_get_a_new_version() {
    let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[4]), (3, &[]), (4, &[])]);
    let after = forest.version_all(&tree).unwrap();
    assert_eq!([1, 2, 3, 4].map(|n| version_of(&forest, &id(n))), [1; 4]);
    assert!(forest.version_all(&tree).unwrap_err().is_conflict());
    let edited = after.with(id(3), Node::default().with_data(1)).unwrap();
    let after = forest.version_all(&edited).unwrap();
    assert_eq!(
        [1, 2, 3, 4].map(|n| after.stamp(&id(n)).unwrap().version()),
        [2; 4]
    );
    assert_eq!(outline(&after), outline(&forest.tree(&id(1)).unwrap()));
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn other_indexes_follow_a_version_too() {
    let mut builder = Forest::builder();
    let by_data = builder.index(|node: &Node| Some(node.data));
    let forest = builder.forest();
    let root = forest.insert(Node::default());
    forest.promote(&root).unwrap();
    let tree = forest.tree(&root).unwrap();
    let mut edit = tree.edit();
    let new: Vec<_> = (0..20)
        .map(|n| edit.add(Node::default().with_data(1 + n % 2)))
        .collect();
    edit.set(root, Node::of(new.clone()));
    let tree = committed(forest.version(&edit.finish().unwrap()));
    assert_eq!(forest.find(&by_data, &1).len(), 10);
    let mut edit = tree.edit();
    for id in &new {
        edit.set(*id, Node::default().with_data(2));
    }
    committed(forest.version(&edit.finish().unwrap()));
    assert_eq!(forest.find(&by_data, &2).to_vec(), sorted(new));
    assert!(forest.find(&by_data, &1).is_empty() && !by_data.keys().contains(&1));
    assert_eq!(forest.validate(), Ok(()));
}

#[test]
fn a_tree_is_shown_as_an_outline() {
    let (_, tree) = rooted(&[(1, &[2]), (2, &[3]), (3, &[])]);
    let edited = tree.with(id(3), Node::default().with_data(1)).unwrap();
    let stamp = |n| tree.stamp(&id(n)).unwrap();
    assert_eq!(
        tree.to_string(),
        format!(
            "{} ({})\n  kids[0]: {} ({})\n    kids[0]: {} ({})",
            id(1),
            stamp(1),
            id(2),
            stamp(2),
            id(3),
            stamp(3)
        )
    );
    assert!(edited.to_string().ends_with(&format!("{} (edited)", id(3))));
    assert!(format!("{tree:?}").contains("len: 3"));
}

#[test]
fn validation_finds_what_is_no_tree() {
    let (forest, _) = rooted(&[(1, &[2]), (2, &[]), (3, &[2])]);
    assert_eq!(
        forest.validate(),
        Ok(()),
        "what no root has is nobody's business"
    );
    forest.promote(&id(3)).unwrap();
    let wrong = forest.validate().unwrap_err().to_string();
    assert!(wrong.contains(&id(2).to_string()), "{wrong}");
    forest.update(&id(3), |_| Node::of([id(9)])).unwrap();
    let wrong = forest.validate().unwrap_err().to_string();
    assert!(wrong.contains(&id(9).to_string()), "{wrong}");
}

// Size.

#[test]
fn one_change_among_many_nodes_is_found_without_looking_at_them() {
    let nodes: u64 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let forest = Forest::new();
    let kids = |n: u64| (10 * n + 1..=10 * n + 10).take_while(|kid| *kid < nodes);
    for n in 0..nodes {
        let kids: Vec<_> = kids(n).map(|kid| id(kid.into())).collect();
        forest.insert_with(id(n.into()), Node::of(kids)).unwrap();
    }
    forest.promote(&id(0)).unwrap();
    let tree = forest.tree(&id(0)).unwrap();
    assert_eq!(tree.len() as u64, nodes);
    let edited = tree
        .with(id((nodes - 1).into()), Node::default().with_data(1))
        .unwrap();
    let diff = edited.diff(&tree);
    assert_eq!(diff.changed(), [id((nodes - 1).into())]);
    assert_eq!(diff.modified().len(), tree.depth());
    assert!(diff.compared() < 100, "{}", diff.compared());
    committed(forest.version(&edited));
    assert_eq!(version_of(&forest, &id(0)), 1);
}

#[test]
fn a_chain_of_100_000_is_built_edited_compared_versioned_and_dropped() {
    const DEEP: u128 = 100_000;
    let forest = Forest::new();
    for n in (0..DEEP).rev() {
        let kids: &[EntityId] = &[id(n + 1)];
        let kids = if n + 1 < DEEP { kids } else { &[] };
        forest.insert_with(id(n), Node::of(kids)).unwrap();
    }
    forest.promote(&id(0)).unwrap();
    let last = id(DEEP - 1);
    let tree = forest.tree(&id(0)).unwrap();
    assert_eq!((tree.depth(), tree.path(&last).len()), (100_000, 100_000));
    let edited = tree.with(last, Node::default().with_data(1)).unwrap();
    assert_eq!(edited.diff(&tree).modified().len(), 100_000);
    let after = committed(forest.version(&edited));
    assert_eq!(
        (version_of(&forest, &id(0)), version_of(&forest, &last)),
        (1, 1)
    );
    assert_eq!(forest.path(&last).unwrap().len(), 100_000);
    let cut = after.with(id(10), Node::default()).unwrap();
    assert_eq!(
        (cut.depth(), cut.diff(&after).removed().len()),
        (11, 99_989)
    );
    drop((tree, edited));
    assert_eq!(after.iter().count(), 100_000);
    let shown = after.to_string();
    let end = shown.lines().last().unwrap();
    assert!(end.contains("depth 100000: kids[0]: "), "{end}");
    assert!(shown.len() < 250 * 100_000, "{}", shown.len());
    drop((after, cut, forest));
}

// Threads.

#[test]
fn of_two_versions_from_one_base_exactly_one_is_committed() {
    for round in 0..200 {
        let (forest, tree) = rooted(&[(1, &[2, 3]), (2, &[]), (3, &[])]);
        let start = Barrier::new(2);
        let race = |node: u128| {
            let edited = tree
                .with(id(node), Node::default().with_data(round + 1))
                .unwrap();
            start.wait();
            forest
                .version(&edited)
                .map(|versioned| versioned.into_tree().unwrap())
        };
        let (left, right) = std::thread::scope(|s| {
            let left = s.spawn(|| race(2));
            (race(3), left.join().unwrap())
        });
        assert!(left.is_ok() != right.is_ok());
        assert_eq!(version_of(&forest, &id(1)), 1);
        let lost = left.err().or(right.err()).unwrap();
        assert!(
            matches!(lost, VersionError::Conflict { id: of, .. } if of == id(1)),
            "{lost}"
        );
    }
}

#[test]
fn trees_stay_trees_while_many_threads_change_them() {
    // On few processors the threads may well run one after the other, which proves nothing.
    let conflicts = (0..50)
        .map(|_| run_of_threads())
        .find(|conflicts| *conflicts > 0);
    assert!(
        conflicts.is_some(),
        "without a conflict this is no evidence"
    );
}

/// Two roots, with parts that go from one to the other, or are removed, by four threads. How many
/// conflicts there were.
fn run_of_threads() -> u64 {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    let forest = Forest::new();
    let roots = [id(1), id(2)];
    for root in roots {
        let kids: Vec<_> = (0..8).map(|_| forest.insert(Node::default())).collect();
        forest.insert_with(root, Node::of(kids)).unwrap();
        forest.promote(&root).unwrap();
    }
    let commits = [AtomicU64::new(0), AtomicU64::new(0)];
    let [born, ended, conflicts, moved] = std::array::from_fn(|_| AtomicU64::new(0));
    // What was taken out, each time, and what somebody else had taken out too when it was looked at.
    let [taken, shared] = std::array::from_fn(|_| Mutex::new(Vec::new()));
    let count = |counter: &AtomicU64, n| _ = counter.fetch_add(n, Ordering::Relaxed);
    let start = Barrier::new(THREADS as usize);
    std::thread::scope(|s| {
        for thread in 0..THREADS {
            let (forest, commits, start) = (&forest, &commits, &start);
            let (born, ended, conflicts, moved) = (&born, &ended, &conflicts, &moved);
            let (taken, shared) = (&taken, &shared);
            s.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let which = ((thread + round) % 2) as usize;
                    let root = roots[which];
                    let tree = match forest.tree(&root) {
                        Ok(tree) => tree,
                        Err(TreeError::Unsettled(_)) => {
                            count(conflicts, 1);
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    // Where others may get in between.
                    std::thread::yield_now();
                    let own = tree.get(&root).unwrap();
                    let pick = own
                        .kids
                        .get((round / 4) as usize % own.kids.len().max(1))
                        .copied();
                    let mut edit = tree.edit();
                    match (round / 2 % 4, pick) {
                        (0, Some(pick)) => {
                            let below = tree.get(&pick).unwrap();
                            let new = edit.add(Node::default().with_data(round));
                            edit.set(pick, below.and(new));
                        }
                        (1, Some(pick)) => {
                            edit.set(
                                pick,
                                tree.get(&pick).unwrap().with_data(round + 1000 * thread),
                            );
                        }
                        (_, Some(pick)) => {
                            edit.set(root, own.without(&pick));
                        }
                        (_, None) => {
                            let new = edit.add(Node::default());
                            edit.set(root, own.and(new));
                        }
                    }
                    let edited = edit.finish().unwrap();
                    let diff = edited.diff(&tree);
                    // A value may be the same as before.
                    match forest.version(&edited) {
                        Ok(Versioned::Unchanged) => continue,
                        Ok(Versioned::Committed(after)) => {
                            assert_eq!(outline(&after), outline(&edited));
                            count(&commits[which], 1);
                            count(born, diff.added().len() as u64);
                        }
                        Err(error) => {
                            assert!(error.is_conflict(), "{error}");
                            count(conflicts, 1);
                            continue;
                        }
                    }
                    let Some(part) = diff.removed().iter().find(|id| Some(**id) == pick) else {
                        continue;
                    };
                    taken.lock().unwrap().push(*part);
                    // What this thread has taken out is its own: a root, and then part of the other tree,
                    // or nothing any more.
                    if round % 3 == 0 {
                        for gone in diff.removed() {
                            forest.remove(gone).unwrap();
                            count(ended, 1);
                        }
                        continue;
                    }
                    match forest.detach(part) {
                        Ok(()) => {}
                        // Whoever has put it here has not come to attach it.
                        Err(ForestError::AlreadyRoot(id)) if id == *part => {
                            shared.lock().unwrap().push(id);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    let other = roots[1 - which];
                    forest.update(&other, |node| node.and(*part)).unwrap();
                    count(&commits[1 - which], 1);
                    // From now on it is part of that tree, and others may take it out.
                    match forest.attach(part, &other) {
                        Ok(()) => {
                            count(&commits[1 - which], 1);
                            count(moved, 1);
                        }
                        Err(
                            ForestError::NotBelow { id, .. }
                            | ForestError::NotRoot(id)
                            | ForestError::Unknown(Unknown(id)),
                        ) if id == *part => shared.lock().unwrap().push(id),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (root, commits) in roots.iter().zip(&commits) {
        assert_eq!(
            version_of(&forest, root),
            load(commits),
            "each version is a commit"
        );
    }
    assert_eq!(forest.len() as u64, 18 + load(&born) - load(&ended));
    let trees = roots.map(|root| forest.tree(&root).unwrap());
    let in_trees: usize = trees.iter().map(Tree::len).sum();
    assert_eq!(in_trees, forest.len(), "nothing lies about");
    assert_eq!(forest.roots(), roots);
    for tree in &trees {
        for node in tree {
            assert_eq!(forest.path(&node.id).unwrap(), tree.path(&node.id));
        }
    }
    assert_eq!(forest.validate(), Ok(()));
    let (taken, shared) = (taken.into_inner().unwrap(), shared.into_inner().unwrap());
    for part in shared {
        let times = taken.iter().filter(|id| **id == part).count();
        assert!(times > 1, "only one has ever taken {part} out");
    }
    assert!(load(&moved) > 0 && load(&ended) > 0 && load(&born) > 0);
    load(&conflicts)
}

#[test]
fn a_tree_is_of_one_moment() {
    let forest = Forest::new();
    let parts: [EntityId; 6] = std::array::from_fn(|_| forest.insert(Node::default()));
    let [a, b, ref kids @ ..] = parts;
    forest.update(&a, |_| Node::of(kids)).unwrap();
    let root = forest.insert(Node::of([a, b]));
    std::thread::scope(|s| {
        let writer = s.spawn(|| {
            // All parts go from one side to the other, at one moment.
            for n in 0..2_000 {
                let (from, to) = if n % 2 == 0 { (a, b) } else { (b, a) };
                snapcell::transaction_or_abort::<_, Unknown>(|tx| {
                    let nodes = forest.within(tx);
                    let kids = nodes.get(&from)?.kids.clone();
                    nodes.write(&from, Node::default())?;
                    nodes.write(&to, Node::of(kids))?;
                    Ok(())
                })
                .unwrap();
            }
        });
        let mut built = 0;
        while !writer.is_finished() || built == 0 {
            match forest.tree(&root) {
                Ok(tree) => assert_eq!(tree.len(), 7, "{tree}"),
                Err(error) => assert_eq!(error, TreeError::Unsettled(root)),
            }
            built += 1;
            let way = forest.path(&kids[0]).unwrap();
            assert_eq!((way.len(), way[0]), (3, root));
        }
        writer.join().unwrap();
    });
    assert_eq!(forest.validate(), Ok(()));
}

// Random edits, against what is plain.

/// Each node of a tree with its parent and value.
type Plain = BTreeMap<EntityId, (Option<EntityId>, Node)>;

fn plain(tree: &Tree<Node>) -> Plain {
    let nodes = tree.iter();
    nodes
        .map(|node| (node.id, (tree.parent(&node.id), node.value.clone())))
        .collect()
}

fn values_in(tree: &Tree<Node>) -> usize {
    tree.iter()
        .filter(|node| tree.get(&node.id) == Some(node.value))
        .count()
}

/// What needs a new version, by the definition.
fn modified(old: &Plain, new: &Plain) -> BTreeSet<EntityId> {
    let mut marked = Vec::new();
    for (id, (parent, value)) in new {
        match old.get(id) {
            Some((before, old)) if before == parent => {
                if old != value {
                    marked.push(*id);
                }
            }
            Some((before, _)) => marked.extend([Some(*id), *before].into_iter().flatten()),
            None => marked.push(*id),
        }
    }
    for (id, (parent, _)) in old {
        if !new.contains_key(id) {
            marked.extend(parent);
        }
    }
    let mut modified = BTreeSet::new();
    for mut id in marked {
        while let Some((parent, _)) = new.get(&id) {
            modified.insert(id);
            let Some(parent) = parent else { break };
            id = *parent;
        }
    }
    modified
}

#[derive(Clone, Debug)]
enum Op {
    Change(usize, u64),
    Add(usize),
    Remove(usize),
    Move(usize, usize),
    Swap(usize),
}

fn ops() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let op = prop_oneof![
        (any::<usize>(), 0..3_u64).prop_map(|(n, data)| Op::Change(n, data)),
        any::<usize>().prop_map(Op::Add),
        any::<usize>().prop_map(Op::Remove),
        (any::<usize>(), any::<usize>()).prop_map(|(n, to)| Op::Move(n, to)),
        any::<usize>().prop_map(Op::Swap),
    ];
    prop::collection::vec(prop::collection::vec(op, 1..8), 1..6)
}

/// Applies the operations to the values, as if there were nothing but a map of them.
fn apply(tree: &Tree<Node>, ops: &[Op]) -> Option<Result<Tree<Node>, TreeError>> {
    let mut values: BTreeMap<_, _> = tree
        .iter()
        .map(|node| (node.id, node.value.clone()))
        .collect();
    let before = values.clone();
    let root = tree.root();
    let parent_of = |values: &BTreeMap<EntityId, Node>, id: EntityId| {
        let mut found = values.iter().filter(|(_, node)| node.kids.contains(&id));
        found.next().map(|(id, _)| *id)
    };
    for op in ops {
        let ids: Vec<_> = values.keys().copied().collect();
        let pick = |n: usize| ids[n % ids.len()];
        match *op {
            Op::Change(n, data) => values.get_mut(&pick(n))?.data = data,
            Op::Add(n) => {
                let new = EntityId::new();
                values.get_mut(&pick(n))?.kids.push(new);
                values.insert(new, Node::default());
            }
            Op::Remove(n) => {
                let id = pick(n);
                if let Some(parent) = parent_of(&values, id) {
                    let parent = values.get_mut(&parent)?;
                    *parent = parent.without(&id);
                }
            }
            Op::Move(n, to) => {
                // Into its own branch as well: then it is out of the tree, or a cycle.
                let (id, to) = (pick(n), pick(to));
                if let Some(parent) = parent_of(&values, id) {
                    let parent = values.get_mut(&parent)?;
                    *parent = parent.without(&id);
                    values.get_mut(&to)?.kids.push(id);
                }
            }
            Op::Swap(n) => values.get_mut(&pick(n))?.kids.reverse(),
        }
    }
    // What is reached from the root.
    let mut reached = BTreeSet::new();
    let mut rest = vec![root];
    while let Some(id) = rest.pop() {
        if reached.insert(id) {
            rest.extend(&values[&id].kids);
        }
    }
    let mut edit = tree.edit();
    for id in reached {
        if before.get(&id) != Some(&values[&id]) {
            edit.set(id, values[&id].clone());
        }
    }
    Some(edit.finish())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn an_edit_is_refused_exactly_where_a_walk_over_all_values_finds_no_tree(
        given in prop::collection::btree_map(1..=10_u128, prop::collection::vec(1..=11_u128, 0..4), 1..5)
    ) {
        let (_, tree) = rooted(&[
            (1, &[2, 3, 4]), (2, &[5, 6]), (3, &[]), (4, &[7]), (5, &[]), (6, &[8]), (7, &[]), (8, &[]),
        ]);
        let mut values: BTreeMap<_, _> = tree.iter().map(|node| (node.id, node.value.clone())).collect();
        let mut edit = tree.edit();
        let mut loose = BTreeSet::new();
        for (node, kids) in given {
            let value = Node::of(kids.into_iter().map(id).collect::<Vec<_>>());
            if values.insert(id(node), value.clone()) != Some(value.clone()) {
                loose.insert(id(node));
            }
            edit.set(id(node), value);
        }
        let mut walked = BTreeMap::new();
        let mut rest = vec![(id(1), None)];
        let mut is_tree = true;
        while let Some((at, parent)) = rest.pop() {
            loose.remove(&at);
            // On, all the same: more than one thing may be wrong.
            let Some(value) = values.get(&at).filter(|_| !walked.contains_key(&at)) else {
                is_tree = false;
                continue;
            };
            walked.insert(at, (parent, value.clone()));
            rest.extend(value.kids.iter().map(|kid| (*kid, Some(at))));
        }
        match edit.finish() {
            Ok(edited) => {
                prop_assert!(is_tree && loose.is_empty());
                prop_assert_eq!(plain(&edited), walked);
                let again = edited.iter().map(|node| edited.edge(&node.id) == node.edge);
                prop_assert!(again.into_iter().all(|is_same| is_same));
                prop_assert_eq!(edited.len(), values_in(&edited));
            }
            Err(TreeError::Loose(id)) => prop_assert!(loose.contains(&id)),
            Err(TreeError::Repeated(repeated)) => {
                prop_assert!(!is_tree);
                for path in [&repeated.first, &repeated.second] {
                    prop_assert_eq!(path.last(), Some(&repeated.id));
                    for step in path.windows(2) {
                        prop_assert!(values[&step[0]].kids.contains(&step[1]));
                    }
                }
            }
            Err(error) => prop_assert!(!is_tree, "{error}"),
        }
    }

    #[test]
    fn random_edits_differ_as_by_the_definition_and_come_back_from_the_store(rounds in ops()) {
        let (forest, mut tree) = rooted(&[
            (1, &[2, 3, 4]), (2, &[5, 6]), (3, &[]), (4, &[7]), (5, &[]), (6, &[8]), (7, &[]), (8, &[]),
        ]);
        let mut commits = 0;
        for ops in rounds {
            let Some(edited) = apply(&tree, &ops) else { continue };
            let edited = edited.unwrap();
            let (old, new) = (plain(&tree), plain(&edited));
            let diff = edited.diff(&tree);
            let added: Vec<_> = new.keys().filter(|id| !old.contains_key(id)).copied().collect();
            let removed: Vec<_> = old.keys().filter(|id| !new.contains_key(id)).copied().collect();
            let both = new.iter().filter_map(|(id, new)| Some((id, new, old.get(id)?)));
            let moved: Vec<_> = both.clone()
                .filter(|(_, new, old)| new.0 != old.0)
                .map(|(id, new, old)| (*id, old.0, new.0))
                .collect();
            let changed: Vec<_> = both.filter(|(_, new, old)| new.1 != old.1)
                .map(|(id, ..)| *id)
                .collect();
            prop_assert_eq!(diff.added(), added);
            prop_assert_eq!(diff.removed(), removed);
            let got: Vec<_> = diff.moved().iter().map(|moved| (moved.id, moved.from, moved.to)).collect();
            prop_assert_eq!(got, moved);
            prop_assert_eq!(diff.changed(), changed);
            let expected: Vec<_> = modified(&old, &new).into_iter().collect();
            prop_assert_eq!(diff.modified(), &expected[..]);
            // And the way back.
            let back = tree.diff(&edited);
            prop_assert_eq!((back.added(), back.removed()), (diff.removed(), diff.added()));

            let versions: BTreeMap<_, _> = expected.iter()
                .filter_map(|id| Some((*id, tree.stamp(id)?.version())))
                .collect();
            match forest.version(&edited).unwrap() {
                Versioned::Unchanged => prop_assert!(expected.is_empty()),
                Versioned::Committed(after) => {
                    commits += 1;
                    prop_assert_eq!(outline(&after), outline(&edited));
                    let built = forest.tree(&id(1)).unwrap();
                    prop_assert_eq!(outline(&built), outline(&edited));
                    prop_assert!(built.diff(&after).is_empty());
                    for node in &built {
                        prop_assert_eq!(Some(node.stamp), Some(after.stamp(&node.id)));
                        prop_assert_eq!(built.path(&node.id), after.path(&node.id));
                        prop_assert_eq!(built.edge(&node.id), after.edge(&node.id));
                    }
                    for id in &expected {
                        let version = versions.get(id).map_or(0, |version| version + 1);
                        prop_assert_eq!(after.stamp(id).unwrap().version(), version);
                    }
                    tree = after;
                }
            }
        }
        prop_assert_eq!(version_of(&forest, &id(1)), commits);
        prop_assert_eq!(forest.validate(), Ok(()));
    }
}
