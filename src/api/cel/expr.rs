//! Expressions, parsed.

/// An expression and where it stands.
#[derive(Debug)]
pub struct Expr {
    pub at: usize,
    pub node: Node,
    /// Levels below and including this one.
    pub depth: u16,
}

/// A constant.
#[derive(Debug)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// What an expression is.
#[derive(Debug)]
pub enum Node {
    Literal(Literal),
    Name(String),
    /// `of.field`, or `of.?field`.
    Select {
        of: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(of.field)`.
    Has {
        of: Box<Expr>,
        field: String,
    },
    /// `of[index]`, or `of[?index]`.
    Index {
        of: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    /// `name(…)`, or `on.name(…)`; operators are calls by their signs.
    Call {
        on: Option<Box<Expr>>,
        name: String,
        args: Vec<Expr>,
    },
    And(Box<[Expr; 2]>),
    Or(Box<[Expr; 2]>),
    /// `a ? b : c`.
    If(Box<[Expr; 3]>),
    /// Items; the flag marks optional ones.
    List(Vec<(Expr, bool)>),
    /// Keys and values; the flag marks optional ones.
    Map(Vec<(Expr, Expr, bool)>),
    /// A macro over the members of `range`.
    Each(Box<Each>),
    /// `cel.bind(name, value, body)`, and `optMap`/`optFlatMap` without a flag for the flat form.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `value.optMap(name, body)`; `flat` for `optFlatMap`.
    OptMap {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
        flat: bool,
    },
}

/// A macro over the members of a list or map.
#[derive(Debug)]
pub struct Each {
    pub how: How,
    pub range: Expr,
    /// The variable; the index or key when there are two.
    pub first: String,
    /// The second variable, empty for none.
    pub second: String,
    /// The filter of a `map` with three arguments.
    pub filter: Option<Expr>,
    pub body: Expr,
}

/// Which macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
    TransformMap,
}

impl Expr {
    /// An expression at a place.
    pub fn new(at: usize, node: Node) -> Self {
        let mut made = Self { at, node, depth: 0 };
        let below = made.children().into_iter().map(|child| child.depth).max();
        made.depth = below.unwrap_or(0).saturating_add(1);
        made
    }

    /// The expressions right below this one.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.node {
            Node::Literal(_) | Node::Name(_) => Vec::new(),
            Node::Select { of, .. } | Node::Has { of, .. } => vec![of],
            Node::Index { of, index, .. } => vec![of, index],
            Node::Call { on, args, .. } => on.iter().map(|on| &**on).chain(args).collect(),
            Node::And(both) | Node::Or(both) => both.iter().collect(),
            Node::If(three) => three.iter().collect(),
            Node::List(items) => items.iter().map(|(item, _)| item).collect(),
            Node::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Node::Each(each) => [&each.range]
                .into_iter()
                .chain(&each.filter)
                .chain([&each.body])
                .collect(),
            Node::Bind { value, body, .. } | Node::OptMap { value, body, .. } => vec![value, body],
        }
    }
}
