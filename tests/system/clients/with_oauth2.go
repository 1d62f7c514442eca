// Go with golang.org/x/oauth2, which tries HTTP Basic at the token endpoint first, and mime/multipart.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"os"
	"time"

	"golang.org/x/oauth2/clientcredentials"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	url, folder := os.Args[1], os.Args[4]
	config := clientcredentials.Config{ClientID: os.Args[2], ClientSecret: os.Args[3], TokenURL: url + "/identity/oauth/token"}
	client := config.Client(context.Background())

	call := func(method, path, contentType string, body io.Reader) (int, []byte) {
		request, err := http.NewRequest(method, url+path, body)
		check(err)
		if contentType != "" {
			request.Header.Set("Content-Type", contentType)
		}
		answer, err := client.Do(request)
		check(err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		check(err)
		return answer.StatusCode, text
	}
	record := func(label string, status int, body []byte) {
		fmt.Printf("%s\t%d\t%s\n", label, status, base64.StdEncoding.EncodeToString(body))
	}

	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, err := writer.CreateFormFile("file", "people.csv")
	check(err)
	rows, err := os.ReadFile(folder + "/people.csv")
	check(err)
	_, err = part.Write(rows)
	check(err)
	check(writer.Close())

	status, body := call("POST", "/bulk/v1/leads.json?format=csv", writer.FormDataContentType(), &form)
	record("leads upload", status, body)
	var receipt struct {
		Result []struct {
			BatchID int    `json:"batchId"`
			Status  string `json:"status"`
		} `json:"result"`
	}
	check(json.Unmarshal(body, &receipt))
	ask := fmt.Sprintf("/bulk/v1/leads/batch/%d", receipt.Result[0].BatchID)
	for round := 0; round < 240; round++ {
		_, body = call("GET", ask+".json", "", nil)
		check(json.Unmarshal(body, &receipt))
		if receipt.Result[0].Status == "Complete" {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	for label, path := range map[string]string{"status": ".json", "failures": "/failures.json", "warnings": "/warnings.json"} {
		status, body = call("GET", ask+path, "", nil)
		record("leads "+label, status, body)
	}
}
