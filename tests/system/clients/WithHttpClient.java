// Java's own java.net.http.HttpClient, which asks for HTTP/2 in its first request, and a form made by hand.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.regex.Pattern;

public class WithHttpClient {
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static String url;
    static String token;

    static HttpResponse<byte[]> send(HttpRequest.Builder request) throws Exception {
        return CLIENT.send(request.build(), BodyHandlers.ofByteArray());
    }

    static HttpResponse<byte[]> get(String path) throws Exception {
        return send(HttpRequest.newBuilder(URI.create(url + path)).header("Authorization", "Bearer " + token));
    }

    static void record(String label, HttpResponse<byte[]> answer) {
        System.out.println(label + "\t" + answer.statusCode() + "\t" + Base64.getEncoder().encodeToString(answer.body()));
    }

    static String field(byte[] body, String pattern) {
        var found = Pattern.compile(pattern).matcher(new String(body));
        if (!found.find()) {
            throw new IllegalStateException("no " + pattern + " in " + new String(body));
        }
        return found.group(1);
    }

    public static void main(String[] args) throws Exception {
        url = args[0];
        var login = "grant_type=client_credentials&client_id=" + args[1] + "&client_secret=" + args[2];
        var answer = send(HttpRequest.newBuilder(URI.create(url + "/identity/oauth/token"))
                .header("Content-Type", "application/x-www-form-urlencoded")
                .POST(BodyPublishers.ofString(login)));
        token = field(answer.body(), "\"access_token\":\"([^\"]*)\"");

        var boundary = "java-http-client-7MA4YWxkTrZu0gW";
        var form = BodyPublishers.concat(
                BodyPublishers.ofString("--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; "
                        + "filename=\"cars.csv\"\r\nContent-Type: text/csv\r\n\r\n"),
                BodyPublishers.ofFile(Path.of(args[3], "cars.csv")),
                BodyPublishers.ofString("\r\n--" + boundary + "--\r\n"));
        answer = send(HttpRequest.newBuilder(URI.create(url + "/bulk/v1/customobjects/car_c/import.json?format=csv"))
                .header("Authorization", "Bearer " + token)
                .header("Content-Type", "multipart/form-data; boundary=" + boundary)
                .POST(form));
        record("objects upload", answer);
        var ask = "/bulk/v1/customobjects/car_c/import/" + field(answer.body(), "\"batchId\":\"?([0-9]+)");
        for (int round = 0; round < 240; round++) {
            if (field(get(ask + "/status.json").body(), "\"status\":\"([A-Za-z]+)\"").equals("Complete")) {
                break;
            }
            Thread.sleep(250);
        }
        for (var what : List.of("status", "failures", "warnings")) {
            record("objects " + what, get(ask + "/" + what + ".json"));
        }
    }
}
