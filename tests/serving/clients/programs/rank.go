// Go's net/http. rank MODE URL: reads "METHOD\tPATH\tBODY" lines, writes "STATUS\tBODY" lines.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

func request(mode, url string, asked []string) (*http.Request, error) {
	if asked[0] != "POST" {
		return http.NewRequest(asked[0], url+asked[1], nil)
	}
	var body io.Reader = strings.NewReader(asked[2])
	switch mode {
	case "chunked":
		body = io.MultiReader(body) // of unknown length
	case "gzip":
		var compressed bytes.Buffer
		writer := gzip.NewWriter(&compressed)
		io.WriteString(writer, asked[2])
		writer.Close()
		body = &compressed
	}
	made, err := http.NewRequest("POST", url+asked[1], body)
	if err != nil {
		return nil, err
	}
	made.Header.Set("Content-Type", "application/json")
	if mode == "gzip" {
		made.Header.Set("Content-Encoding", "gzip")
	} else if mode == "expect" {
		made.Header.Set("Expect", "100-continue")
	}
	return made, nil
}

func main() {
	mode, url := os.Args[1], os.Args[2]
	client := &http.Client{Timeout: 10 * time.Second}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		made, err := request(mode, url, strings.Split(lines.Text(), "\t"))
		if err != nil {
			log.Fatal(err)
		}
		response, err := client.Do(made)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
		fmt.Printf("%d\t%s\n", response.StatusCode, body)
	}
}
