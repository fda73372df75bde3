//! Evaluation, with a budget: every step costs, and what runs out of it fails.

use std::rc::Rc;

use super::budget::{Budget, EXCEEDED};
use super::expr::{Each, Expr, How, Literal, Node};
use super::val::Val;
use super::{functions, ops};

/// The variables that an expression sees.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    vars: Vec<(String, Val<'a>)>,
}

impl<'a> Scope<'a> {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more.
    pub fn with(mut self, name: &str, value: Val<'a>) -> Self {
        self.vars.push((name.to_owned(), value));
        self
    }
}

/// Evaluates an expression.
pub fn run<'a>(root: &Expr, scope: &Scope<'a>, budget: &mut Budget) -> Result<Val<'a>, String> {
    let mut run = Run {
        vars: scope.vars.clone(),
        budget,
    };
    run.eval(root)
}

struct Run<'a, 'b> {
    vars: Vec<(String, Val<'a>)>,
    budget: &'b mut Budget,
}

impl<'a> Run<'a, '_> {
    fn eval(&mut self, expr: &Expr) -> Result<Val<'a>, String> {
        match &expr.node {
            Node::Literal(literal) => return Ok(constant(literal)),
            Node::List(_) => self.budget.spend(10)?,
            Node::Map(_) => self.budget.spend(30)?,
            _ => self.budget.spend(1)?,
        }
        match &expr.node {
            Node::Literal(literal) => Ok(constant(literal)),
            Node::Name(name) => self.variable(name),
            Node::Select { of, field, optional } => {
                let of = self.eval(of)?;
                ops::select(&of, field, *optional)
            }
            Node::Has { of, field } => {
                let of = self.eval(of)?;
                ops::has(&of, field)
            }
            Node::Index { of, index, optional } => {
                let (of, index) = (self.eval(of)?, self.eval(index)?);
                ops::index(&of, &index, *optional)
            }
            Node::Call { on, name, args } => self.call(on.as_deref(), name, args),
            Node::And(both) => self.logic(both, false),
            Node::Or(both) => self.logic(both, true),
            Node::If(three) => {
                let [condition, then, otherwise] = &**three;
                match self.eval(condition)? {
                    Val::Bool(true) => self.eval(then),
                    Val::Bool(false) => self.eval(otherwise),
                    _ => Err("no such overload".to_owned()),
                }
            }
            Node::List(items) => self.items(items),
            Node::Map(entries) => self.entries(entries),
            Node::Each(each) => self.each(each),
            Node::Bind { name, value, body } => {
                let value = self.eval(value)?;
                self.within(&[(name, value)], |run| run.eval(body))
            }
            Node::OptMap {
                name,
                value,
                body,
                flat,
            } => self.opt_map(name, value, body, *flat),
        }
    }

    fn variable(&self, name: &str) -> Result<Val<'a>, String> {
        let found = self.vars.iter().rev().find(|(known, _)| known == name);
        if let Some((_, value)) = found {
            return Ok(value.clone());
        }
        match super::check::type_word(name) {
            Some(word) => Ok(Val::Type(word)),
            None => Err(format!("no such attribute(s): {name}")),
        }
    }

    /// Runs `inner` with more variables.
    fn within<T>(
        &mut self,
        vars: &[(&str, Val<'a>)],
        inner: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let before = self.vars.len();
        self.vars.extend(
            vars.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        let out = inner(self);
        self.vars.truncate(before);
        out
    }

    /// `&&` and `||`: what one side decides, an error on the other does not spoil.
    fn logic(&mut self, both: &[Expr; 2], decides: bool) -> Result<Val<'a>, String> {
        let [left, right] = both;
        let left = self.eval(left);
        if matches!(left, Ok(Val::Bool(flag)) if flag == decides) {
            return Ok(Val::Bool(decides));
        }
        let right = self.eval(right);
        match (left, right) {
            (_, Ok(Val::Bool(flag))) if flag == decides => Ok(Val::Bool(decides)),
            (Ok(Val::Bool(_)), Ok(Val::Bool(_))) => Ok(Val::Bool(!decides)),
            (Err(why), _) | (_, Err(why)) => Err(why),
            _ => Err("no such overload".to_owned()),
        }
    }

    fn call(&mut self, on: Option<&Expr>, name: &str, args: &[Expr]) -> Result<Val<'a>, String> {
        let mut values = Vec::with_capacity(args.len() + 1);
        if let Some(on) = on {
            values.push(self.eval(on)?);
        }
        for arg in args {
            values.push(self.eval(arg)?);
        }
        self.budget.spend(functions::cost(name, &values))?;
        match on {
            Some(_) => functions::method(name, &values),
            None => functions::global(name, &values),
        }
    }

    fn items(&mut self, items: &[(Expr, bool)]) -> Result<Val<'a>, String> {
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.eval(item)?, optional) {
                (Val::Optional(Some(value)), true) => out.push((*value).clone()),
                (Val::Optional(None), true) => {}
                (_, true) => {
                    return Err("cannot initialize optional list element from non-optional value".into());
                }
                (value, false) => out.push(value),
            }
        }
        Ok(Val::list(out))
    }

    fn entries(&mut self, entries: &[(Expr, Expr, bool)]) -> Result<Val<'a>, String> {
        let mut out: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            if out.iter().any(|(known, _)| known.equals(&key)) {
                return Err("Failed with repeated key".to_owned());
            }
            match (self.eval(value)?, optional) {
                (Val::Optional(Some(value)), true) => out.push((key, (*value).clone())),
                (Val::Optional(None), true) => {}
                (value, _) => out.push((key, value)),
            }
        }
        Ok(Val::Map(Rc::new(out)))
    }

    fn opt_map(&mut self, name: &str, value: &Expr, body: &Expr, flat: bool) -> Result<Val<'a>, String> {
        match self.eval(value)? {
            Val::Optional(None) => Ok(Val::Optional(None)),
            Val::Optional(Some(value)) => {
                let made = self.within(&[(name, (*value).clone())], |run| run.eval(body))?;
                Ok(if flat {
                    made
                } else {
                    Val::Optional(Some(Rc::new(made)))
                })
            }
            _ => Err("no such overload".to_owned()),
        }
    }

    /// What a macro goes over: pairs of index or key, and item or value.
    fn members(&mut self, each: &Each) -> Result<Vec<(Val<'a>, Val<'a>)>, String> {
        let range = self.eval(&each.range)?;
        if let Some(items) = range.items() {
            let indexed = items.into_iter().enumerate();
            return Ok(indexed.map(|(i, item)| (Val::Int(i as i64), item)).collect());
        }
        let entries = range.entries().ok_or_else(|| "no such overload".to_owned())?;
        if each.second.is_empty() {
            // With one variable a macro goes over the keys.
            return Ok(entries.into_iter().map(|(key, _)| (key.clone(), key)).collect());
        }
        Ok(entries)
    }

    fn each(&mut self, each: &Each) -> Result<Val<'a>, String> {
        let members = self.members(each)?;
        let mut gathered = Gathered::default();
        for (key, value) in members {
            let vars: Vec<(&str, Val<'a>)> = if each.second.is_empty() {
                vec![(each.first.as_str(), value.clone())]
            } else {
                vec![
                    (each.first.as_str(), key.clone()),
                    (each.second.as_str(), value.clone()),
                ]
            };
            let done = self.within(&vars, |run| {
                run.budget.spend(1)?;
                if let Some(filter) = &each.filter {
                    match run.eval(filter)? {
                        Val::Bool(true) => {}
                        Val::Bool(false) => return Ok(false),
                        _ => return Err("no such overload".to_owned()),
                    }
                }
                let made = run.eval(&each.body);
                gathered.take(each.how, key, value, made)
            })?;
            if done {
                break;
            }
        }
        gathered.finish(each.how)
    }
}

/// What a macro has found so far.
#[derive(Default)]
struct Gathered<'a> {
    trues: usize,
    falses: usize,
    /// An error that a later member may make irrelevant.
    error: Option<String>,
    items: Vec<Val<'a>>,
    entries: Vec<(Val<'a>, Val<'a>)>,
}

impl<'a> Gathered<'a> {
    /// Takes what the body made of one member; true when the rest does not matter.
    fn take(
        &mut self,
        how: How,
        key: Val<'a>,
        value: Val<'a>,
        made: Result<Val<'a>, String>,
    ) -> Result<bool, String> {
        match (how, made) {
            (How::Map, made) => self.items.push(made?),
            (How::TransformMap, made) => self.entries.push((key, made?)),
            (How::Filter, Ok(Val::Bool(true))) => self.items.push(value),
            (How::Filter, Ok(Val::Bool(false))) => {}
            (_, Ok(Val::Bool(true))) => self.trues += 1,
            (_, Ok(Val::Bool(false))) => self.falses += 1,
            (How::All | How::Exists, Err(why)) if why != EXCEEDED => {
                self.error.get_or_insert(why);
            }
            (_, Err(why)) => return Err(why),
            (_, Ok(_)) => return Err("no such overload".to_owned()),
        }
        Ok(match how {
            How::All => self.falses > 0,
            How::Exists => self.trues > 0,
            How::ExistsOne => self.trues > 1,
            _ => false,
        })
    }

    fn finish(self, how: How) -> Result<Val<'a>, String> {
        let verdict = match how {
            How::Map | How::Filter => return Ok(Val::list(self.items)),
            How::TransformMap => return Ok(Val::Map(Rc::new(self.entries))),
            How::All if self.falses > 0 => false,
            How::Exists if self.trues > 0 => true,
            How::ExistsOne => self.trues == 1,
            How::All | How::Exists => {
                if let Some(why) = self.error {
                    return Err(why);
                }
                how == How::All
            }
        };
        Ok(Val::Bool(verdict))
    }
}

fn constant<'a>(literal: &Literal) -> Val<'a> {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(flag) => Val::Bool(*flag),
        Literal::Int(n) => Val::Int(*n),
        Literal::Uint(n) => Val::Uint(*n),
        Literal::Double(n) => Val::Double(*n),
        Literal::Text(text) => Val::text(text),
        Literal::Bytes(bytes) => Val::Bytes(Rc::from(bytes.as_slice())),
    }
}
