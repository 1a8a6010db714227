"""Files of the built-in images."""

NGINX, HTTPD = "/usr/share/nginx/html/index.html", "/usr/local/apache2/htdocs/index.html"
"""The pages that the servers of the web have."""

OF_NGINX = {
    NGINX: "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n"
    "<body><h1>Welcome to nginx!</h1></body>\n</html>\n"
}
OF_HTTPD = {HTTPD: "<html><body><h1>It works!</h1></body></html>\n"}
OF_AGNHOST = {
    "/localhost.crt": """\
-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUJvJ9h6tJC1IzATplIRi9hDCc+GswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDAyNTkwM1oYDzIxMjYxMTA2
MDI1OTAzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASfn19HapFT94e2G8VZF90TMDuF9sI+Nj7bwoRpMvFWn0LwdX6kGcA2
TiBNi6OTA939uLmM7vd7kYxcLSB1OF9Mo2kwZzAdBgNVHQ4EFgQUWU64qXyDskL1
Q3oQgfUx+czZWrcwHwYDVR0jBBgwFoAUWU64qXyDskL1Q3oQgfUx+czZWrcwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIhAJViSrM7AtMuP2rJFVZFIaEy2wqQ1QJg64fGPXHYMwAOAiAxyQnw4Lbf
wHvTN6KEaZ/TA0Nx5DTi+NUYjWLYBxIzHA==
-----END CERTIFICATE-----
"""
}
UPDATE_DEMO = "/usr/share/update-demo/data.json"
"""By which the versions of the update demo are told apart."""


def of_update_demo(name: str) -> dict[str, str]:
    """The files of the image of that name."""
    return {UPDATE_DEMO: f'{{\n"image": "{name}.jpg"\n}}\n'}
