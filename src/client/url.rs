//! Requests as HTTP sees them: path, query and method. Pure.

use api::request::{Options, PatchType, Request, Verb};

/// The media type that says how a patch is to be read.
pub fn patch_media_type(how: PatchType) -> &'static str {
    match how {
        PatchType::Json => "application/json-patch+json",
        PatchType::Merge => "application/merge-patch+json",
        PatchType::Strategic => "application/strategic-merge-patch+json",
        PatchType::Apply => "application/apply-patch+yaml",
    }
}

/// The HTTP method of a verb.
pub fn method(verb: Verb) -> http::Method {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => http::Method::GET,
        Verb::Create => http::Method::POST,
        Verb::Update => http::Method::PUT,
        Verb::Patch(_) => http::Method::PATCH,
        Verb::Delete | Verb::DeleteCollection => http::Method::DELETE,
    }
}

/// Path and query of a request, such as `/api/v1/namespaces/default/pods?limit=5`.
pub fn path_and_query(request: &Request) -> String {
    let mut path = path(request);
    let query = query(request);
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    path
}

fn path(request: &Request) -> String {
    let resource = &request.resource;
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let mut push = |part: &str| {
        path.push('/');
        escape(part, &mut path);
    };
    let own_object = resource.group.is_empty() && resource.plural == "namespaces";
    if !request.namespace.is_empty() && !own_object {
        push("namespaces");
        push(&request.namespace);
    }
    push(&resource.plural);
    // A watch of one object is a watch of the collection with a field selector.
    if !request.name.is_empty() && request.verb != Verb::Watch {
        push(&request.name);
        if !request.subresource.is_empty() {
            request.subresource.split('/').for_each(&mut push);
        }
    }
    path
}

fn query(request: &Request) -> String {
    let mut pairs = Pairs(String::new());
    let options = &request.options;
    match request.verb {
        Verb::Get => pairs.text(
            "resourceVersion",
            options.resource_version.as_deref().unwrap_or_default(),
        ),
        Verb::List => listing(&mut pairs, options, ""),
        Verb::Watch => {
            pairs.text("watch", "true");
            listing(&mut pairs, options, &request.name);
            watching(&mut pairs, options);
        }
        Verb::Create | Verb::Update | Verb::Patch(_) => writing(&mut pairs, options),
        Verb::Delete => deleting(&mut pairs, options),
        Verb::DeleteCollection => {
            listing(&mut pairs, options, "");
            deleting(&mut pairs, options);
        }
    }
    pairs.0
}

fn listing(pairs: &mut Pairs, options: &Options, name: &str) {
    pairs.text("labelSelector", &options.label_selector);
    let mut fields = options.field_selector.clone();
    if !name.is_empty() {
        let comma = if fields.is_empty() { "" } else { "," };
        fields = format!("{fields}{comma}metadata.name={name}");
    }
    pairs.text("fieldSelector", &fields);
    if options.limit > 0 {
        pairs.text("limit", &options.limit.to_string());
    }
    pairs.text("continue", &options.continue_token);
    pairs.text(
        "resourceVersion",
        options.resource_version.as_deref().unwrap_or_default(),
    );
    pairs.text("resourceVersionMatch", &options.resource_version_match);
    if let Some(seconds) = options.timeout_seconds {
        pairs.text("timeoutSeconds", &seconds.to_string());
    }
}

fn watching(pairs: &mut Pairs, options: &Options) {
    pairs.flag("allowWatchBookmarks", options.allow_watch_bookmarks);
    if let Some(send) = options.send_initial_events {
        pairs.text("sendInitialEvents", if send { "true" } else { "false" });
    }
}

fn writing(pairs: &mut Pairs, options: &Options) {
    pairs.text("fieldManager", &options.field_manager);
    pairs.text("fieldValidation", &options.field_validation);
    pairs.flag("force", options.force);
    if options.dry_run {
        pairs.text("dryRun", "All");
    }
}

fn deleting(pairs: &mut Pairs, options: &Options) {
    if let Some(seconds) = options.grace_period_seconds {
        pairs.text("gracePeriodSeconds", &seconds.to_string());
    }
    pairs.text("propagationPolicy", &options.propagation_policy);
    if options.dry_run {
        pairs.text("dryRun", "All");
    }
}

struct Pairs(String);

impl Pairs {
    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        escape(value, &mut self.0);
    }

    fn flag(&mut self, name: &str, on: bool) {
        if on {
            self.text(name, "true");
        }
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for half in [byte >> 4, byte & 15] {
                out.push(
                    char::from_digit(u32::from(half), 16)
                        .unwrap_or('0')
                        .to_ascii_uppercase(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use api::request::{ResourceRef, User};

    use super::*;

    fn request(verb: Verb, group: &str, plural: &str, namespace: &str, name: &str) -> Request {
        Request::new(
            User::anonymous(),
            verb,
            ResourceRef::new(group, "v1", plural),
            namespace,
            name,
        )
    }

    #[test]
    fn objects_have_paths() {
        let mut r = request(Verb::Get, "apps", "deployments", "shop", "web");
        assert_eq!(
            path_and_query(&r),
            "/apis/apps/v1/namespaces/shop/deployments/web"
        );
        r.subresource = "status".into();
        assert_eq!(
            path_and_query(&r),
            "/apis/apps/v1/namespaces/shop/deployments/web/status"
        );
        let r = request(Verb::Get, "", "namespaces", "shop", "shop");
        assert_eq!(path_and_query(&r), "/api/v1/namespaces/shop");
    }

    #[test]
    fn watches_of_one_object_select_its_name() {
        let mut r = request(Verb::Watch, "", "pods", "", "a");
        r.options.label_selector = "app in (a, b)".into();
        r.options.allow_watch_bookmarks = true;
        assert_eq!(
            path_and_query(&r),
            "/api/v1/pods?watch=true&labelSelector=app%20in%20%28a%2C%20b%29\
             &fieldSelector=metadata.name%3Da&allowWatchBookmarks=true"
        );
    }
}
