//! The pages people see.

use crate::lab::{
    context::Context,
    message::{Answer, Request, escape},
};

/// `/meet/<user>/<id>`: the join page. Anything else below `/meet` is the troubleshooting page.
pub(super) fn meet(context: &Context, request: &Request, below: &[String]) -> Answer {
    let server = escape(&context.server.fqdn);
    let [user, id] = below else {
        return page(
            "Skype for Business Web App",
            &format!(
                "<h1>Sorry, something went wrong, and we can't get you into the meeting.</h1>\
                 <p id=\"troubleshooting\">Check the address of the meeting.</p>\
                 <p id=\"server\">{server}</p>"
            ),
        );
    };
    let web = context.names(&request.host).web;
    let (user, id) = (escape(user), escape(id).to_uppercase());
    let domain = escape(context.estate.first_domain());
    page(
        "Skype for Business Web App",
        &format!(
            "<h1>Joining the meeting…</h1><p id=\"server\">{server}</p>\
             <script type=\"text/javascript\">\n\
             var reachURL = \"https://{web}/lwa/WebPages/LwaClient.aspx\";\n\
             var escapedXML = \"&lt;conf-uri&gt;sip:{user}@{domain};gruu;opaque=app:conf:focus:id:{id}\
             &lt;/conf-uri&gt;\";\n\
             </script>"
        ),
    )
}

/// `/dialin`: conference numbers.
pub(super) fn dialin(context: &Context) -> Answer {
    page(
        "Dial-in Conferencing Settings",
        &format!(
            "<h1>Dial-in Conferencing Settings and PIN Management</h1>\
             <table><tr><td>Amsterdam</td><td>+31 20 555 0100</td></tr></table>\
             <p id=\"server\">{}</p>",
            escape(&context.server.fqdn)
        ),
    )
}

/// `/scheduler`: the Web Scheduler's sign-in form.
pub(super) fn scheduler(context: &Context) -> Answer {
    page(
        "Skype for Business Web Scheduler",
        &format!(
            "<!-- Web Scheduler Version: 5.0.8308.0 -->\
             <form method=\"post\" action=\"/scheduler/SignIn.aspx\">\
             <input name=\"username\"><input name=\"password\" type=\"password\">\
             <button>Sign In</button></form><p id=\"server\">{}</p>",
            escape(&context.server.fqdn)
        ),
    )
}

/// `/PersistentChat/rm`: room management.
pub(super) fn persistent_chat() -> Answer {
    page("Manage PersistentChat Rooms", "<h1>Manage PersistentChat Rooms</h1>")
}

/// `/lwa`: the web client.
pub(super) fn web_app(context: &Context) -> Answer {
    page(
        "Skype for Business Web App",
        &format!("<div id=\"lwa\">{}</div>", escape(&context.server.fqdn)),
    )
}

/// `/cscp` and `/macp` of a Front End, `/ecp` of Exchange: the control panels.
pub(super) fn control_panel(context: &Context) -> Answer {
    page(
        "Control Panel",
        &format!("<h1>Control Panel</h1><p id=\"server\">{}</p>", escape(&context.server.fqdn)),
    )
}

/// `/owa`: Outlook on the web.
pub(super) fn outlook(context: &Context) -> Answer {
    page(
        "Outlook",
        &format!("<h1>Outlook</h1><p id=\"server\">{}</p>", escape(&context.server.fqdn)),
    )
}

/// `/hosting/discovery` of an Office Web Apps server, with addresses under its external name.
pub(super) fn wopi_discovery(context: &Context) -> Answer {
    let base = format!("https://{}", escape(&context.estate.wac));
    Answer::new(
        200,
        "text/xml",
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><wopi-discovery>\
             <net-zone name=\"external-https\">\
             <app name=\"PowerPoint\" favIconUrl=\"{base}/p/resources/FavIcon_Ppt.ico\">\
             <action name=\"view\" ext=\"pptx\" \
             urlsrc=\"{base}/p/PowerPointFrame.aspx?PowerPointView=ReadingView&amp;\"/>\
             <action name=\"present\" ext=\"pptx\" \
             urlsrc=\"{base}/m/Presenter.aspx?a=0&amp;e=true&amp;\"/></app></net-zone>\
             <proof-key value=\"bGFi\" oldvalue=\"bGFi\"/></wopi-discovery>"
        ),
    )
}

/// A viewer page of an Office Web Apps server.
pub(super) fn viewer(context: &Context) -> Answer {
    page(
        "Office Web Apps",
        &format!("<h1>Office Web Apps</h1><p id=\"server\">{}</p>", escape(&context.server.fqdn)),
    )
}

fn page(title: &str, body: &str) -> Answer {
    Answer::html(
        200,
        format!(
            "<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>\n"
        ),
    )
}
