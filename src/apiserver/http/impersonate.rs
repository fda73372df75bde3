//! Acting as somebody else (`Impersonate-*` headers), for those who may.

use std::collections::BTreeMap;

use api::request::User;
use api::status::Status;
use http::HeaderMap;

use super::path::decode;
use crate::authz::{Attributes, Authorizer};

/// What all such headers begin with.
const ALL: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";

/// The user that the request is to be carried out as, if headers say that it is another one than the caller.
pub async fn effective(
    caller: &User,
    headers: &HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<Option<User>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with(ALL)) {
        return Ok(None);
    }
    Box::pin(asked(caller, headers, authorizer)).await
}

async fn asked(
    caller: &User,
    headers: &HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<Option<User>, Status> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let (name, uid) = (text("impersonate-user"), text("impersonate-uid"));
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect();
    let extra = extra(headers);
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        let why = "requested [groups, uid or extra] without impersonating a user";
        return Err(Status::bad_request(why));
    }
    for asked in questions(caller, &name, &uid, &groups, &extra) {
        authorizer.authorize(&asked).await?;
    }
    Ok(Some(User {
        groups: full_groups(&name, groups),
        name,
        uid,
        extra: extra.into(),
    }))
}

/// The parts of a service account's user name: namespace and name.
fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

fn questions(
    caller: &User,
    name: &str,
    uid: &str,
    groups: &[String],
    extra: &BTreeMap<String, Vec<String>>,
) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, name: &str| Attributes {
        user: caller.clone(),
        verb: "impersonate".to_owned(),
        resource_request: true,
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    let mut asked = vec![match service_account(name) {
        Some((namespace, account)) => Attributes {
            namespace: namespace.to_owned(),
            ..ask("", "serviceaccounts", account)
        },
        None => ask("", "users", name),
    }];
    asked.extend(groups.iter().map(|group| ask("", "groups", group)));
    if !uid.is_empty() {
        asked.push(ask("authentication.k8s.io", "uids", uid));
    }
    for (key, values) in extra {
        asked.extend(values.iter().map(|value| Attributes {
            subresource: key.clone(),
            ..ask("authentication.k8s.io", "userextras", value)
        }));
    }
    asked
}

fn full_groups(name: &str, mut groups: Vec<String>) -> Vec<String> {
    if name == "system:anonymous" {
        if groups.is_empty() {
            groups.push("system:unauthenticated".to_owned());
        }
        return groups;
    }
    if let (Some((namespace, _)), true) = (service_account(name), groups.is_empty()) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let told = |group: &String| group == "system:authenticated" || group == "system:unauthenticated";
    if !groups.iter().any(told) {
        groups.push("system:authenticated".to_owned());
    }
    groups
}

fn extra(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name
            .as_str()
            .strip_prefix(EXTRA)
            .and_then(|key| decode(key, false))
        else {
            continue;
        };
        if let Ok(value) = value.to_str() {
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    extra
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::Rbac;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn those_who_may_act_as_others() {
        let rbac = Rbac::with_defaults();
        let admin = User::new("root", &["system:masters"]);
        let asked = headers(&[("impersonate-user", "jane"), ("impersonate-group", "dev")]);
        let jane = effective(&admin, &asked, &rbac).await.unwrap();
        assert_eq!(jane, Some(User::new("jane", &["dev", "system:authenticated"])));
        let account = headers(&[("impersonate-user", "system:serviceaccount:a:bot")]);
        let bot = effective(&admin, &account, &rbac).await.unwrap();
        assert_eq!(
            bot.unwrap().groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        let nobody_else = effective(&admin, &HeaderMap::new(), &rbac).await;
        assert_eq!(nobody_else.unwrap(), None);
        assert_eq!(
            effective(&admin, &headers(&[("impersonate-group", "x")]), &rbac)
                .await
                .unwrap_err()
                .code,
            400
        );
    }

    #[tokio::test]
    async fn others_may_not() {
        let rbac = Rbac::with_defaults();
        let asked = headers(&[("impersonate-user", "root")]);
        let refused = effective(&User::new("eve", &[]), &asked, &rbac)
            .await
            .unwrap_err();
        assert_eq!(
            refused.message,
            r#"users "root" is forbidden: User "eve" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
    }
}
