//! What the schema says about where in an object a patch is.

use crate::schema::{Field, Merge, Node};

/// What the schema says about where we are; nothing where the schema ends.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    node: Option<&'a Node>,
    merge: Option<&'a Merge>,
}

impl<'a> Place<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
        Self {
            node: Some(node),
            merge: None,
        }
    }

    pub(super) fn field(self, key: &str) -> Self {
        match self.node {
            Some(Node::Struct(of)) => match of.get().field(key) {
                Some(Field { node, merge, .. }) => Self {
                    node: Some(node),
                    merge: Some(merge),
                },
                None => Self {
                    node: None,
                    merge: None,
                },
            },
            Some(Node::Map(value)) => Self::of(value),
            _ => Self {
                node: None,
                merge: None,
            },
        }
    }

    pub(super) fn item(self) -> Self {
        match self.node {
            Some(Node::List(item)) => Self::of(item),
            _ => Self {
                node: None,
                merge: None,
            },
        }
    }

    pub(super) fn merges_lists(self) -> bool {
        self.merge.is_some_and(|merge| merge.patch_merge)
    }

    pub(super) fn replaces_maps(self) -> bool {
        self.merge.is_some_and(|merge| merge.patch_replace)
    }

    pub(super) fn key(self) -> &'a str {
        self.merge.map_or("", |merge| merge.patch_key.as_ref())
    }
}
