//! Tokens → expression. Macros are recognised here, as the language has it: they are not functions.

use super::Error;
use super::lex::{Kind, Token, is_reserved, lex};

/// Deepest nesting of brackets, and of everything together: what is parsed here is evaluated by recursion, on
/// a thread's stack.
const NESTING_MAX: usize = 100;
const DEPTH_MAX: u16 = 300;

/// An expression and where it stands.
#[derive(Debug)]
pub struct Expr {
    pub at: usize,
    pub node: Node,
    /// Levels below and including this one.
    depth: u16,
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

/// Parses a whole text.
pub fn parse(source: &str) -> Result<Expr, Error> {
    let mut parser = Parser {
        tokens: lex(source)?,
        place: 0,
        depth: 0,
    };
    let root = parser.ternary()?;
    match parser.peek() {
        Kind::End => Ok(root),
        other => Err(parser.unexpected(&other.clone())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    place: usize,
    depth: usize,
}

/// Binary operators by how tightly they bind.
const LEVELS: [&[&str]; 3] = [
    &["<", "<=", ">=", ">", "==", "!=", "in"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser {
    fn peek(&self) -> &Kind {
        self.tokens
            .get(self.place)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.place).map_or(0, |token| token.at)
    }

    fn advance(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.place += 1;
        kind
    }

    fn unexpected(&self, kind: &Kind) -> Error {
        let shown = match kind {
            Kind::End => "<EOF>".to_owned(),
            Kind::Sign(sign) => (*sign).to_owned(),
            Kind::Name(name) => name.clone(),
            Kind::Int(n) => n.to_string(),
            Kind::Text(text) => format!("{text:?}"),
            _ => "literal".to_owned(),
        };
        Error::new(self.at(), format!("Syntax error: mismatched input '{shown}'"))
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Kind::Sign(found) if *found == sign)
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.place += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.accept(sign) {
            return Ok(());
        }
        let mut error = self.unexpected(&self.peek().clone());
        error.text.push_str(&format!(" expecting '{sign}'"));
        Err(error)
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= NESTING_MAX {
            return Err(Error::new(
                self.at(),
                format!("expression recursion limit exceeded: {NESTING_MAX}"),
            ));
        }
        self.depth += 1;
        let out = inner(self);
        self.depth -= 1;
        out
    }

    fn ternary(&mut self) -> Result<Expr, Error> {
        self.deeper(|p| {
            let at = p.at();
            let condition = p.or()?;
            if !p.accept("?") {
                return Ok(condition);
            }
            let then = p.or()?;
            p.expect(":")?;
            let otherwise = p.ternary()?;
            Ok(Expr::new(at, Node::If(Box::new([condition, then, otherwise]))))
        })
    }

    fn or(&mut self) -> Result<Expr, Error> {
        let mut left = self.and()?;
        while self.is("||") {
            let at = self.at();
            self.place += 1;
            let right = self.and()?;
            left = self.chained(at, Node::Or(Box::new([left, right])))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, Error> {
        let mut left = self.binary(0)?;
        while self.is("&&") {
            let at = self.at();
            self.place += 1;
            let right = self.binary(0)?;
            left = self.chained(at, Node::And(Box::new([left, right])))?;
        }
        Ok(left)
    }

    /// A left-leaning chain is as deep as it is long; evaluation must not go deeper than parsing may.
    fn chained(&mut self, at: usize, node: Node) -> Result<Expr, Error> {
        let made = Expr::new(at, node);
        if made.depth > DEPTH_MAX {
            return Err(Error::new(
                at,
                format!("expression recursion limit exceeded: {DEPTH_MAX}"),
            ));
        }
        Ok(made)
    }

    fn operator(&self, level: usize) -> Option<String> {
        let known = LEVELS.get(level)?;
        let found = match self.peek() {
            Kind::Sign(sign) => *sign,
            Kind::Name(name) if name == "in" => "in",
            _ => return None,
        };
        known.contains(&found).then(|| found.to_owned())
    }

    fn binary(&mut self, level: usize) -> Result<Expr, Error> {
        if level == LEVELS.len() {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Some(name) = self.operator(level) {
            let at = self.at();
            self.place += 1;
            let right = self.binary(level + 1)?;
            left = self.chained(
                at,
                Node::Call {
                    on: None,
                    name,
                    args: vec![left, right],
                },
            )?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Error> {
        let at = self.at();
        if self.accept("!") {
            let inner = self.deeper(Self::unary)?;
            return Ok(Expr::new(
                at,
                Node::Call {
                    on: None,
                    name: "!".into(),
                    args: vec![inner],
                },
            ));
        }
        if !self.accept("-") {
            return self.member();
        }
        let literal = match self.peek() {
            Kind::Int(n) => Some(Literal::Int(-n)),
            Kind::Uint(n) if *n == 1 << 63 => Some(Literal::Int(i64::MIN)),
            Kind::Double(n) => Some(Literal::Double(-n)),
            _ => None,
        };
        if let Some(literal) = literal {
            self.place += 1;
            let number = Expr::new(at, Node::Literal(literal));
            return self.postfix(number);
        }
        let inner = self.deeper(Self::unary)?;
        Ok(Expr::new(
            at,
            Node::Call {
                on: None,
                name: "neg".into(),
                args: vec![inner],
            },
        ))
    }

    fn member(&mut self) -> Result<Expr, Error> {
        let primary = self.primary()?;
        self.postfix(primary)
    }

    fn postfix(&mut self, mut of: Expr) -> Result<Expr, Error> {
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let name = self.name()?;
                of = if !optional && self.accept("(") {
                    let args = self.arguments(")")?;
                    self.method(at, of, name, args)?
                } else {
                    Expr::new(
                        at,
                        Node::Select {
                            of: Box::new(of),
                            field: name,
                            optional,
                        },
                    )
                };
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = Box::new(self.ternary()?);
                self.expect("]")?;
                of = Expr::new(
                    at,
                    Node::Index {
                        of: Box::new(of),
                        index,
                        optional,
                    },
                );
            } else {
                return Ok(of);
            }
            of = self.chained(at, of.node)?;
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        match self.peek().clone() {
            Kind::Name(name) => {
                self.place += 1;
                Ok(name)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Expr>, Error> {
        let mut out = Vec::new();
        while !self.accept(end) {
            if !out.is_empty() {
                self.expect(",")?;
                if self.accept(end) {
                    break;
                }
            }
            out.push(self.ternary()?);
        }
        Ok(out)
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        let at = self.at();
        // A leading dot names the root scope, which is the only one here.
        self.accept(".");
        let node = match self.advance() {
            Kind::Int(n) => Node::Literal(Literal::Int(n)),
            Kind::Uint(n) => Node::Literal(Literal::Uint(n)),
            Kind::Double(n) => Node::Literal(Literal::Double(n)),
            Kind::Text(text) => Node::Literal(Literal::Text(text)),
            Kind::Bytes(bytes) => Node::Literal(Literal::Bytes(bytes)),
            Kind::Name(name) => return self.named(at, name),
            Kind::Sign("(") => {
                let inner = self.ternary()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Kind::Sign("[") => Node::List(self.items()?),
            Kind::Sign("{") => Node::Map(self.entries()?),
            other => {
                self.place -= 1;
                return Err(self.unexpected(&other));
            }
        };
        Ok(Expr::new(at, node))
    }

    fn named(&mut self, at: usize, name: String) -> Result<Expr, Error> {
        let literal = match name.as_str() {
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            "null" => Some(Literal::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return Ok(Expr::new(at, Node::Literal(literal)));
        }
        if is_reserved(&name) {
            return Err(Error::new(
                at,
                format!("Syntax error: reserved identifier: {name}"),
            ));
        }
        if !self.accept("(") {
            return Ok(Expr::new(at, Node::Name(name)));
        }
        let mut args = self.arguments(")")?;
        if name != "has" {
            return Ok(Expr::new(at, Node::Call { on: None, name, args }));
        }
        match (args.pop().map(|arg| arg.node), args.is_empty()) {
            (
                Some(Node::Select {
                    of,
                    field,
                    optional: false,
                }),
                true,
            ) => Ok(Expr::new(at, Node::Has { of, field })),
            _ => Err(Error::new(at, "invalid argument to has() macro")),
        }
    }

    fn items(&mut self) -> Result<Vec<(Expr, bool)>, Error> {
        let mut out = Vec::new();
        while !self.accept("]") {
            if !out.is_empty() {
                self.expect(",")?;
                if self.accept("]") {
                    break;
                }
            }
            let optional = self.accept("?");
            out.push((self.ternary()?, optional));
        }
        Ok(out)
    }

    fn entries(&mut self) -> Result<Vec<(Expr, Expr, bool)>, Error> {
        let mut out = Vec::new();
        while !self.accept("}") {
            if !out.is_empty() {
                self.expect(",")?;
                if self.accept("}") {
                    break;
                }
            }
            let optional = self.accept("?");
            let key = self.ternary()?;
            self.expect(":")?;
            out.push((key, self.ternary()?, optional));
        }
        Ok(out)
    }

    /// `on.name(args)`: a macro, a function of a namespace such as `sets.contains`, or a method.
    fn method(&mut self, at: usize, on: Expr, name: String, args: Vec<Expr>) -> Result<Expr, Error> {
        let how = match (name.as_str(), args.len()) {
            ("all", 2 | 3) => Some(How::All),
            ("exists", 2 | 3) => Some(How::Exists),
            ("exists_one" | "existsOne", 2 | 3) => Some(How::ExistsOne),
            ("filter", 2) => Some(How::Filter),
            ("map", 2 | 3) | ("transformList", 3 | 4) => Some(How::Map),
            ("transformMap", 3 | 4) => Some(How::TransformMap),
            _ => None,
        };
        if let Some(how) = how {
            return each(at, how, &name, on, args);
        }
        let in_namespace = match &on.node {
            Node::Name(space) => matches!(
                space.as_str(),
                "sets" | "optional" | "cel" | "math" | "strings" | "format"
            ),
            _ => false,
        };
        let in_namespace = in_namespace || (name == "isCanonical" && args.len() == 1);
        match (name.as_str(), &on.node) {
            ("bind", Node::Name(space)) if space == "cel" && args.len() == 3 => bind(at, args),
            ("optMap" | "optFlatMap", _) if args.len() == 2 => opt_map(at, on, name == "optFlatMap", args),
            (_, Node::Name(space)) if in_namespace => {
                let name = format!("{space}.{name}");
                Ok(Expr::new(at, Node::Call { on: None, name, args }))
            }
            _ => Ok(Expr::new(
                at,
                Node::Call {
                    on: Some(Box::new(on)),
                    name,
                    args,
                },
            )),
        }
    }
}

fn variable(arg: Option<Expr>, at: usize) -> Result<String, Error> {
    match arg.map(|arg| arg.node) {
        Some(Node::Name(name)) => Ok(name),
        _ => Err(Error::new(at, "argument must be a simple name")),
    }
}

fn missing(at: usize) -> Error {
    Error::new(at, "Syntax error: too few arguments")
}

fn each(at: usize, how: How, name: &str, range: Expr, args: Vec<Expr>) -> Result<Expr, Error> {
    let count = args.len();
    let mut args = args.into_iter();
    let first = variable(args.next(), at)?;
    // `map` has one variable and perhaps a filter; `transform…` has two and perhaps a filter; tests have one or two.
    let (variables, filtered) = match name {
        "map" => (1, count == 3),
        "transformList" | "transformMap" => (2, count == 4),
        _ => (count - 1, false),
    };
    let second = if variables == 2 {
        variable(args.next(), at)?
    } else {
        String::new()
    };
    let filter = if filtered { args.next() } else { None };
    let body = args.next().ok_or_else(|| missing(at))?;
    let each = Each {
        how,
        range,
        first,
        second,
        filter,
        body,
    };
    Ok(Expr::new(at, Node::Each(Box::new(each))))
}

fn bind(at: usize, args: Vec<Expr>) -> Result<Expr, Error> {
    let mut args = args.into_iter();
    let name = variable(args.next(), at)?;
    let value = Box::new(args.next().ok_or_else(|| missing(at))?);
    let body = Box::new(args.next().ok_or_else(|| missing(at))?);
    Ok(Expr::new(at, Node::Bind { name, value, body }))
}

fn opt_map(at: usize, value: Expr, flat: bool, args: Vec<Expr>) -> Result<Expr, Error> {
    let mut args = args.into_iter();
    let name = variable(args.next(), at)?;
    let body = Box::new(args.next().ok_or_else(|| missing(at))?);
    Ok(Expr::new(
        at,
        Node::OptMap {
            name,
            value: Box::new(value),
            body,
            flat,
        },
    ))
}

impl Expr {
    fn new(at: usize, node: Node) -> Self {
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
