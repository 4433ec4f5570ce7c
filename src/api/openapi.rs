//! `/v1/openapi.json`: the OpenAPI document, made of the same table of routes as the router.

use super::Plain;
use super::answer::{InvalidConfiguration, JSON, Kind, PROBLEM, Problem};
use super::routes::routes;
use super::state::Api;
use axum::body::Bytes;
use axum::handler::Handler;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::path::{OperationBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ComponentsBuilder, Object, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, HttpMethod, Info, OpenApiBuilder, Paths, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// A method of an address: what answers, and what the document says of it.
pub(super) struct Route {
    pub path: &'static str,
    pub handler: MethodRouter<Api>,
    method: HttpMethod,
    operation: OperationBuilder,
    /// That of a request that is granted.
    answer: ResponseBuilder,
    /// By their names: those that the document refers to.
    schemas: Vec<(String, RefOr<Schema>)>,
}

pub(super) fn get<T: 'static>(
    path: &'static str,
    says: &str,
    handler: impl Handler<T, Api>,
) -> Route {
    Route::new(HttpMethod::Get, path, says, routing::get(handler))
}

pub(super) fn post<T: 'static>(
    path: &'static str,
    says: &str,
    handler: impl Handler<T, Api>,
) -> Route {
    Route::new(HttpMethod::Post, path, says, routing::post(handler))
}

pub(super) fn put<T: 'static>(
    path: &'static str,
    says: &str,
    handler: impl Handler<T, Api>,
) -> Route {
    Route::new(HttpMethod::Put, path, says, routing::put(handler))
}

pub(super) fn delete<T: 'static>(
    path: &'static str,
    says: &str,
    handler: impl Handler<T, Api>,
) -> Route {
    Route::new(HttpMethod::Delete, path, says, routing::delete(handler))
}

pub(super) fn patch<T: 'static>(
    path: &'static str,
    says: &str,
    handler: impl Handler<T, Api>,
) -> Route {
    Route::new(HttpMethod::Patch, path, says, routing::patch(handler))
}

impl Route {
    fn new(method: HttpMethod, path: &'static str, says: &str, handler: MethodRouter<Api>) -> Self {
        let verb = match method {
            HttpMethod::Put => "put",
            HttpMethod::Post => "post",
            HttpMethod::Delete => "delete",
            HttpMethod::Patch => "patch",
            _ => "get",
        };
        let id = format!("{verb}{}", path.replace(['/', '.'], "_"));
        Route {
            path,
            handler,
            method,
            operation: OperationBuilder::new()
                .operation_id(Some(id))
                .summary(Some(says))
                .response("default", Ref::from_response_name("Problem")),
            answer: ResponseBuilder::new().description(says),
            schemas: Vec::new(),
        }
    }

    fn refer<T: ToSchema>(&mut self) -> Ref {
        self.schemas.push((T::name().into(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name())
    }

    /// It has these parameters in its query.
    pub(super) fn query<T: IntoParams>(self) -> Self {
        let parameters = T::into_params(|| Some(ParameterIn::Query));
        Route {
            operation: self.operation.parameters(Some(parameters)),
            ..self
        }
    }

    /// Its body is JSON.
    pub(super) fn takes<T: ToSchema>(mut self) -> Self {
        let content = Content::new(Some(self.refer::<T>()));
        self.body(JSON, content, Required::True)
    }

    /// Its body is JSON, or nothing.
    pub(super) fn may_take<T: ToSchema>(mut self) -> Self {
        let content = Content::new(Some(self.refer::<T>()));
        self.body(JSON, content, Required::False)
    }

    /// Its body is a JSON object of any members.
    pub(super) fn takes_object(self) -> Self {
        let content = Content::new(Some(Object::new()));
        self.body(JSON, content, Required::True)
    }

    /// Its body is text.
    pub(super) fn takes_text(self, content_type: &str) -> Self {
        self.body(
            content_type,
            Content::new(Some(String::schema())),
            Required::True,
        )
    }

    fn body(self, content_type: &str, content: Content, required: Required) -> Self {
        let body = RequestBodyBuilder::new()
            .content(content_type, content)
            .required(Some(required));
        Route {
            operation: self.operation.request_body(Some(body.build())),
            ..self
        }
    }

    /// It answers JSON.
    pub(super) fn answers<T: ToSchema>(mut self) -> Self {
        let content = Content::new(Some(self.refer::<T>()));
        let answer = self.answer.content(JSON, content);
        Route { answer, ..self }
    }

    /// It answers a JSON object of any members.
    pub(super) fn answers_object(self) -> Self {
        let content = Content::new(Some(Object::new()));
        let answer = self.answer.content(JSON, content);
        Route { answer, ..self }
    }

    /// It answers a list in JSON.
    pub(super) fn rows<T: ToSchema>(mut self) -> Self {
        let row = self.refer::<T>();
        self.list(row)
    }

    /// It answers a list in JSON, of one of three.
    pub(super) fn rows_or<T: ToSchema, U: ToSchema, V: ToSchema>(mut self) -> Self {
        let either = AnyOfBuilder::new().item(self.refer::<T>());
        let either = either.item(self.refer::<U>()).item(self.refer::<V>());
        self.list(Schema::AnyOf(either.build()))
    }

    fn list(self, row: impl Into<RefOr<Schema>>) -> Self {
        let rows = ArrayBuilder::new().items(row.into());
        let answer = self.answer.content(JSON, Content::new(Some(rows)));
        Route { answer, ..self }
    }

    /// It answers text.
    pub(super) fn text(self, content_type: &str) -> Self {
        let content = Content::new(Some(String::schema()));
        let answer = self.answer.content(content_type, content);
        Route { answer, ..self }
    }

    /// Beside what every request may be refused for.
    pub(super) fn refuses(mut self, kinds: &[Kind]) -> Self {
        let mut by_status = BTreeMap::<_, Vec<_>>::new();
        for kind in kinds {
            by_status.entry(kind.status()).or_default().push(*kind);
        }
        for (status, kinds) in by_status {
            let said = kinds
                .iter()
                .map(|kind| format!("{}: `{}`", kind.title(), kind.name()));
            let schema = match kinds.contains(&Kind::InvalidConfiguration) {
                true => self.refer::<InvalidConfiguration>(),
                false => self.refer::<Problem>(),
            };
            let answer = ResponseBuilder::new()
                .description(said.collect::<Vec<_>>().join("; "))
                .content(PROBLEM, Content::new(Some(schema)));
            let operation = self.operation.response(status.as_str(), answer);
            self = Route { operation, ..self };
        }
        self
    }
}

fn document(routes: Vec<Route>) -> String {
    let (mut paths, mut components) = (Paths::new(), ComponentsBuilder::new());
    for route in routes {
        components = components.schemas_from_iter(route.schemas);
        let operation = route.operation.response("200", route.answer);
        let item = PathItem::new(route.method, operation);
        let known = paths.paths.entry(route.path.to_owned()).or_default();
        known.merge_operations(item);
    }
    let problem = Content::new(Some(Ref::from_schema_name(Problem::name())));
    let problem = ResponseBuilder::new()
        .description("The request is refused, or weir cannot answer it")
        .content(PROBLEM, problem);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "The token of `[api] token_file`, for what a door does not grant without",
        ));
    let components = components
        .schema(Problem::name(), Problem::schema())
        .response("Problem", problem)
        .security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    let mut info = Info::new("weir", env!("CARGO_PKG_VERSION"));
    info.description =
        Some("What weir shows of itself, and what it can be asked to change".to_owned());
    let document = OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .security(Some([
            SecurityRequirement::default(),
            SecurityRequirement::new("bearer", [""; 0]),
        ]));
    // It is plain data: it cannot fail.
    let mut document = serde_json::to_value(document.build()).unwrap_or_default();
    leave_out_nulls(&mut document);
    format!("{document:#}\n")
}

/// What may be missing is left out, and never null: neither parameters nor members of objects are, where they are not
/// required.
fn leave_out_nulls(value: &mut Value) {
    if value["in"] == "query" && value["required"] == false {
        without_null(&mut value["schema"]);
    }
    let required = value["required"].as_array().cloned().unwrap_or_default();
    if let Some(members) = value.get_mut("properties").and_then(Value::as_object_mut) {
        let members = members.iter_mut();
        members
            .filter(|(name, _)| !required.iter().any(|it| it == *name))
            .for_each(|(_, schema)| without_null(schema));
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(leave_out_nulls),
        Value::Array(values) => values.iter_mut().for_each(leave_out_nulls),
        _ => {}
    }
}

fn without_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|it| it != "null");
        if let [one] = &types[..] {
            schema["type"] = one.clone();
        }
    } else if let Some(either) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        either.retain(|it| it["type"] != "null");
        if let [one] = &either[..] {
            *schema = one.clone();
        }
    }
}

pub(super) async fn openapi(_: Plain) -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document(routes()).into());
    ([(header::CONTENT_TYPE, JSON)], DOCUMENT.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    found.insert(to.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_every_route_once_and_all_that_it_refers_to() {
        let text = document(routes());
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for to in &found {
            let place = to.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{to}");
        }
        // And nothing that it does not.
        for name in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            assert!(
                found.contains(&format!("#/components/schemas/{name}")),
                "{name}"
            );
        }
        let paths = document["paths"].as_object().unwrap();
        let operations: Vec<_> = paths
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .collect();
        assert_eq!(operations.len(), routes().len());
        let ids: BTreeSet<_> = operations
            .iter()
            .map(|it| it["operationId"].as_str())
            .collect();
        assert_eq!(ids.len(), operations.len());
    }

    #[test]
    fn the_router_has_no_route_beside_the_table() {
        let source = include_str!("mod.rs").split("mod tests").next();
        let source: String = source.unwrap().split_whitespace().collect();
        assert!(!source.contains(".route_service(") && !source.contains(".merge("));
        let routes: Vec<_> = source.split(".route(").skip(1).collect();
        assert_eq!(routes.len(), 2, "{routes:?}");
        assert!(routes[0].starts_with("route.path,"), "{routes:?}");
        assert!(routes[1].starts_with("\"/v1/inject\","), "{routes:?}");
    }
}
