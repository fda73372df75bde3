//! From the claims of a token that is genuine to a user. Pure.

use std::collections::BTreeMap;

use api::cel::{Budget, Program, Scope, Val, to_json};
use api::request::User;
use jiff::Timestamp;
use serde_json::Value;

use super::config::{Jwt, Mapping};
use crate::authn::groups::add_authenticated;

/// What one expression may cost.
const COST_MAX: u64 = 1_000_000;
/// How far ahead of ours the issuer's clock may be, in seconds (go-oidc's allowance for `nbf`).
const AHEAD_SECONDS: i64 = 300;

/// What an issuer's tokens mean, compiled.
pub(super) struct Rules {
    audiences: Vec<String>,
    required: Vec<(String, String)>,
    validations: Vec<Check>,
    username: Source,
    groups: Option<Source>,
    uid: Option<Source>,
    extra: Vec<(String, Expression)>,
    user_validations: Vec<Check>,
}

/// An expression, and how it was written.
struct Expression {
    source: String,
    program: Program,
}

struct Check {
    expression: Expression,
    message: String,
}

enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

impl Expression {
    fn new(source: &str, variable: &str, field: &str) -> Result<Self, String> {
        let program = Program::compile(source, &[variable]);
        let wrong = |why| format!("{field}: Invalid value: {source:?}: compilation failed: {why}");
        Ok(Self {
            source: source.to_owned(),
            program: program.map_err(wrong)?,
        })
    }

    fn eval(&self, variable: &str, value: &Value) -> Result<Value, String> {
        let scope = Scope::new().with(variable, Val::json(value, None));
        let made = self.program.eval(&scope, &mut Budget::new(COST_MAX));
        let made = made.and_then(|value| to_json(&value));
        made.map_err(|why| format!("expression '{}' resulted in error: {why}", self.source))
    }
}

impl Check {
    fn hold(checks: &[Self], variable: &str, value: &Value) -> Result<(), String> {
        for check in checks {
            if check.expression.eval(variable, value)? != Value::Bool(true) {
                let source = &check.expression.source;
                return Err(match check.message.as_str() {
                    "" => format!("validation expression '{source}' failed"),
                    message => format!("validation expression '{source}' failed: {message}"),
                });
            }
        }
        Ok(())
    }
}

impl Source {
    fn of(mapping: &Mapping, field: &str) -> Result<Option<Self>, String> {
        match (
            mapping.claim.as_str(),
            mapping.expression.as_str(),
            &mapping.prefix,
        ) {
            ("", "", None) => Ok(None),
            ("", "", Some(_)) => Err(format!("{field}.claim: Required value: prefix needs a claim")),
            ("", source, None) => {
                let expression = Expression::new(source, "claims", &format!("{field}.expression"))?;
                Ok(Some(Source::Expression(expression)))
            }
            ("", _, Some(_)) => Err(format!("{field}: prefix can't be set when expression is set")),
            (claim, "", prefix) => Ok(Some(Source::Claim {
                name: claim.to_owned(),
                prefix: prefix.clone().unwrap_or_default(),
            })),
            _ => Err(format!("{field}: claim and expression can't both be set")),
        }
    }

    /// The texts that it gives; `None` for a claim that is not there.
    fn texts(&self, claims: &Value) -> Result<Option<Vec<String>>, String> {
        match self {
            Source::Claim { name, prefix } => {
                let Some(value) = claims.get(name) else {
                    return Ok(None);
                };
                let texts = texts(value).ok_or_else(|| format!("parse claim {name:?}: it is no text"))?;
                Ok(Some(
                    texts.into_iter().map(|text| format!("{prefix}{text}")).collect(),
                ))
            }
            Source::Expression(expression) => {
                let made = expression.eval("claims", claims)?;
                let wrong = || {
                    format!(
                        "expression '{}' must give text or a list of texts",
                        expression.source
                    )
                };
                texts(&made).map(Some).ok_or_else(wrong)
            }
        }
    }

    /// The one text that it gives.
    fn text(&self, claims: &Value, what: &str) -> Result<String, String> {
        let texts = self.texts(claims)?.unwrap_or_default();
        match texts.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(format!("parse {what} claims: the token has none")),
            _ => Err(format!("parse {what} claims: the token has several")),
        }
    }
}

/// A text or a list of texts; nothing is an empty list.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

impl Rules {
    /// Compiles what a configuration says.
    ///
    /// # Errors
    /// What is wrong with it, by field.
    pub fn new(jwt: &Jwt) -> Result<Self, String> {
        if jwt.issuer.audiences.is_empty() {
            return Err(
                "issuer.audiences: Required value: at least one jwt.issuer.audiences is required".into(),
            );
        }
        let (mut required, mut validations) = (Vec::new(), Vec::new());
        for (at, rule) in jwt.claim_validation_rules.iter().enumerate() {
            let field = format!("claimValidationRules[{at}]");
            match (rule.claim.as_str(), rule.expression.as_str()) {
                ("", "") => {
                    return Err(format!(
                        "{field}: Required value: claim or expression is required"
                    ));
                }
                (claim, "") => required.push((claim.to_owned(), rule.required_value.clone())),
                ("", source) => validations.push(Check {
                    expression: Expression::new(source, "claims", &format!("{field}.expression"))?,
                    message: rule.message.clone(),
                }),
                _ => return Err(format!("{field}: claim and expression can't both be set")),
            }
        }
        let mappings = &jwt.claim_mappings;
        let username = Source::of(&mappings.username, "claimMappings.username")?;
        let none = "claimMappings.username: Required value: claim or expression is required";
        let extra = mappings.extra.iter().enumerate().map(|(at, extra)| {
            let field = format!("claimMappings.extra[{at}].valueExpression");
            Ok((
                extra.key.clone(),
                Expression::new(&extra.value_expression, "claims", &field)?,
            ))
        });
        let user_validations = jwt.user_validation_rules.iter().enumerate().map(|(at, rule)| {
            Ok(Check {
                expression: Expression::new(
                    &rule.expression,
                    "user",
                    &format!("userValidationRules[{at}].expression"),
                )?,
                message: rule.message.clone(),
            })
        });
        Ok(Self {
            audiences: jwt.issuer.audiences.clone(),
            required,
            validations,
            username: username.ok_or_else(|| none.to_owned())?,
            groups: Source::of(&mappings.groups, "claimMappings.groups")?,
            uid: Source::of(&mappings.uid, "claimMappings.uid")?,
            extra: extra.collect::<Result<_, String>>()?,
            user_validations: user_validations.collect::<Result<_, String>>()?,
        })
    }

    /// Whose a genuine token with these claims is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub fn user(&self, claims: &Value, now: Timestamp) -> Result<User, String> {
        self.check_time(claims, now.as_second())?;
        let audiences = texts(&claims["aud"]).unwrap_or_default();
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(format!(
                "verify token: oidc: expected audience in {:?} got {audiences:?}",
                self.audiences
            ));
        }
        self.check_email(claims)?;
        for (claim, value) in &self.required {
            match claims.get(claim) {
                None => return Err(format!("required claim {claim} not present in ID token")),
                Some(is) if is.as_str() != Some(value) => {
                    return Err(format!(
                        "required claim {claim} value does not match. Got = {is}, want = {value}"
                    ));
                }
                Some(_) => {}
            }
        }
        Check::hold(&self.validations, "claims", claims)?;
        let user = self.mapped(claims)?;
        Check::hold(&self.user_validations, "user", &user.info())?;
        Ok(user)
    }

    fn check_time(&self, claims: &Value, now: i64) -> Result<(), String> {
        let time = |claim: &str| claims[claim].as_f64().map(|seconds| seconds as i64);
        match time("exp") {
            Some(ends) if ends > now => {}
            Some(_) => return Err("verify token: oidc: token is expired".to_owned()),
            None => return Err("verify token: oidc: token has no expiry".to_owned()),
        }
        match time("nbf") {
            Some(begins) if begins > now + AHEAD_SECONDS => {
                Err("verify token: oidc: current time before the nbf (not before) time".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Who is named by an address must have proven that it is theirs.
    fn check_email(&self, claims: &Value) -> Result<(), String> {
        let by_email = matches!(&self.username, Source::Claim { name, .. } if name == "email");
        match claims.get("email_verified") {
            Some(verified) if by_email && *verified != Value::Bool(true) => {
                Err("email not verified".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn mapped(&self, claims: &Value) -> Result<User, String> {
        let name = self.username.text(claims, "username")?;
        if name.is_empty() {
            return Err("username claim is empty".to_owned());
        }
        let mut groups = match &self.groups {
            Some(source) => source.texts(claims)?.unwrap_or_default(),
            None => Vec::new(),
        };
        add_authenticated(&name, &mut groups);
        let uid = match &self.uid {
            Some(source) => source.text(claims, "uid")?,
            None => String::new(),
        };
        let mut extra = BTreeMap::new();
        for (key, expression) in &self.extra {
            let values = texts(&expression.eval("claims", claims)?).ok_or_else(|| {
                format!(
                    "expression '{}' must give text or a list of texts",
                    expression.source
                )
            })?;
            let values: Vec<String> = values.into_iter().filter(|value| !value.is_empty()).collect();
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
            extra.insert(
                "authentication.kubernetes.io/credential-id".to_owned(),
                vec![format!("JTI={id}")],
            );
        }
        Ok(User {
            name,
            uid,
            groups,
            extra: extra.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(more: &str) -> Result<Rules, String> {
        let text = format!("issuer: {{url: 'https://issuer', audiences: [api]}}\n{more}");
        Rules::new(&serde_saphyr::from_str::<Jwt>(&text).unwrap())
    }

    fn claims(more: Value) -> Value {
        let mut claims = json!({"iss": "https://issuer", "aud": "api", "exp": 2000, "sub": "jane"});
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    }

    fn user(rules: &Rules, more: Value) -> Result<User, String> {
        rules.user(&claims(more), Timestamp::from_second(1000).unwrap())
    }

    #[test]
    fn claims_become_users_by_name() {
        let rules = rules(
            "claimMappings: {username: {claim: sub, prefix: 'oidc:'}, groups: {claim: groups, prefix: ''}}",
        );
        let rules = rules.unwrap();
        let jane = user(&rules, json!({"groups": ["dev", "ops"]})).unwrap();
        assert_eq!(
            jane,
            User::new("oidc:jane", &["dev", "ops", "system:authenticated"])
        );
        assert_eq!(user(&rules, json!({"groups": "dev"})).unwrap().groups[0], "dev");
        for (more, why) in [
            (json!({"exp": 1000}), "token is expired"),
            (json!({"nbf": 2000}), "before the nbf"),
            (
                json!({"aud": ["other"]}),
                "expected audience in [\"api\"] got [\"other\"]",
            ),
            (json!({"sub": ""}), ""),
            (json!({"groups": 7}), "parse claim \"groups\""),
        ] {
            let said = user(&rules, more.clone());
            match why {
                "" => assert_eq!(said.unwrap().name, "oidc:", "{more}"),
                why => assert!(said.as_ref().unwrap_err().contains(why), "{more}: {said:?}"),
            }
        }
    }

    #[test]
    fn claims_become_users_by_expressions_that_are_checked() {
        let rules = rules(
            "claimValidationRules: [{claim: hd, requiredValue: example.com}, \
               {expression: 'claims.level > 2', message: too low}]\n\
             claimMappings:\n  username: {expression: 'claims.sub + \"@\" + claims.hd'}\n  \
               uid: {expression: claims.sub}\n  extra: [{key: example.com/level, valueExpression: 'string(claims.level)'}]\n\
             userValidationRules: [{expression: '!user.username.startsWith(\"system:\")', message: reserved}]",
        )
        .unwrap();
        let good = json!({"hd": "example.com", "level": 3, "jti": "7"});
        let jane = user(&rules, good).unwrap();
        assert_eq!(
            (jane.name.as_str(), jane.uid.as_str()),
            ("jane@example.com", "jane")
        );
        assert_eq!(jane.extra["example.com/level"], ["3"]);
        assert_eq!(
            jane.extra["authentication.kubernetes.io/credential-id"],
            ["JTI=7"]
        );
        for (more, why) in [
            (json!({"level": 3}), "required claim hd not present"),
            (
                json!({"hd": "other", "level": 3}),
                "required claim hd value does not match",
            ),
            (json!({"hd": "example.com", "level": 1}), "failed: too low"),
            (
                json!({"hd": "example.com", "level": 3, "sub": "system:x"}),
                "failed: reserved",
            ),
        ] {
            let said = user(&rules, more).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn an_address_counts_once_it_is_verified() {
        let rules = rules("claimMappings: {username: {claim: email, prefix: ''}}").unwrap();
        let of = |verified: Value| {
            user(
                &rules,
                json!({"email": "j@example.com", "email_verified": verified}),
            )
        };
        assert_eq!(of(true.into()).unwrap().name, "j@example.com");
        assert_eq!(of(false.into()).unwrap_err(), "email not verified");
    }

    #[test]
    fn what_makes_no_sense_is_refused_when_it_is_read() {
        for (more, why) in [
            ("claimMappings: {}", "claimMappings.username: Required value"),
            (
                "claimMappings: {username: {claim: a, expression: b}}",
                "can't both be set",
            ),
            (
                "claimMappings: {username: {expression: 'claims.'}}",
                "compilation failed",
            ),
            (
                "claimMappings: {username: {expression: 'object.x'}}",
                "compilation failed",
            ),
        ] {
            let said = rules(more).err().unwrap();
            assert!(said.contains(why), "{said}");
        }
    }
}
