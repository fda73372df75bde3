//! Tokens → expression.

use super::error::Error;
use super::expr::{Expr, Literal, Node};
use super::lex::{Kind, Token, lex};
use super::macros;
use super::names::{is_reserved, unescape};

/// Deepest nesting of brackets, and of everything together: what is parsed here is evaluated by recursion, on
/// a thread's stack.
const NESTING_MAX: usize = 100;
const DEPTH_MAX: u16 = 300;

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

/// Whether an expression names a type whose values mutations write down: `Object`, `Object.spec`, `JSONPatch`.
fn is_type(expr: &Expr) -> bool {
    match &expr.node {
        Node::Name(name) => matches!(name.as_str(), "Object" | "JSONPatch"),
        Node::Select {
            of, optional: false, ..
        } => is_type(of),
        _ => false,
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
        let error = self.unexpected(&self.peek().clone());
        Err(error.expecting(sign))
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
                    macros::method(at, of, name, args)?
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
            } else if self.is("{") && is_type(&of) {
                self.place += 1;
                of = Expr::new(at, Node::Map(self.fields()?));
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

    /// What stands between commas up to `end`; a comma may follow the last.
    fn listed<T>(
        &mut self,
        end: &str,
        mut one: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut out = Vec::new();
        while !self.accept(end) {
            if !out.is_empty() {
                self.expect(",")?;
                if self.accept(end) {
                    break;
                }
            }
            out.push(one(self)?);
        }
        Ok(out)
    }

    fn items(&mut self) -> Result<Vec<(Expr, bool)>, Error> {
        self.listed("]", |parser| {
            let optional = parser.accept("?");
            Ok((parser.ternary()?, optional))
        })
    }

    /// The fields of an object that is written down with its type, which is a map to us.
    fn fields(&mut self) -> Result<Vec<(Expr, Expr, bool)>, Error> {
        self.listed("}", |parser| {
            let (optional, at) = (parser.accept("?"), parser.at());
            let name = unescape(&parser.name()?);
            let key = Expr::new(at, Node::Literal(Literal::Text(name)));
            parser.expect(":")?;
            Ok((key, parser.ternary()?, optional))
        })
    }

    fn entries(&mut self) -> Result<Vec<(Expr, Expr, bool)>, Error> {
        self.listed("}", |parser| {
            let optional = parser.accept("?");
            let key = parser.ternary()?;
            parser.expect(":")?;
            Ok((key, parser.ternary()?, optional))
        })
    }
}
