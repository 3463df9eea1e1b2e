// Clients of the JDK. java Rank MODE URL: reads "METHOD\tPATH\tBODY" lines, writes "STATUS\tBODY" lines.
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

public class Rank {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();  // offers HTTP/2 by Upgrade: h2c
    private static final HttpClient HTTP_1 = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] asked = line.split("\t", -1);
            System.out.println(switch (arguments[0]) {
                case "default" -> send(CLIENT, arguments[1], asked, BodyPublishers.ofString(asked[2]), false);
                case "http_1_1" -> send(HTTP_1, arguments[1], asked, BodyPublishers.ofString(asked[2]), false);
                case "chunked" -> send(CLIENT, arguments[1], asked, stream(asked[2]), false);
                case "expect" -> send(HTTP_1, arguments[1], asked, BodyPublishers.ofString(asked[2]), true);
                case "url_connection" -> sendByUrlConnection(arguments[1], asked);
                default -> throw new IllegalArgumentException(arguments[0]);
            });
        }
    }

    private static BodyPublisher stream(String body) {
        return BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body.getBytes()));
    }

    private static String send(HttpClient client, String url, String[] asked, BodyPublisher body, boolean expect)
            throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + asked[1])).timeout(Duration.ofSeconds(10));
        if (asked[0].equals("POST")) {
            request.header("Content-Type", "application/json").POST(body).expectContinue(expect);
        } else {
            request.method(asked[0], BodyPublishers.noBody());
        }
        var response = client.send(request.build(), BodyHandlers.ofString());
        return response.statusCode() + "\t" + response.body();
    }

    private static String sendByUrlConnection(String url, String[] asked) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL(url + asked[1]).openConnection();
        connection.setRequestMethod(asked[0]);
        if (asked[0].equals("POST")) {
            connection.setDoOutput(true);
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setRequestProperty("Accept", "application/json, application/*+json");  // as Spring's RestTemplate
            connection.getOutputStream().write(asked[2].getBytes());
        }
        int status = connection.getResponseCode();
        try (InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return status + "\t" + (body == null ? "" : new String(body.readAllBytes()));
        }
    }
}
